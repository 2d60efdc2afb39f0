"""JSON with a picture in base64: bounded, and never echoed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from service.api import uploads
from service.api.uploads import Upload
from service.errors import Problem
from tests.service.api.bodies import read, refusal


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_gives_fields_and_no_picture(content_type: str):
    assert read(content_type, b'{"latent": [1, 2]}') == Upload(None, {"latent": [1, 2]})


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


WRITTEN = [
    lambda text: text,
    lambda text: f"data:image/png;base64,{text}",
    lambda text: f"data:image/png;base64,{quote(text, safe='')}",
    lambda text: f"DATA:image/jpeg;charset=utf-8;Base64,{text}",
    lambda text: f"data:;base64,{text}",
    lambda text: text.replace("+", "-").replace("/", "_"),
    lambda text: text.rstrip("="),
    lambda text: "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 300, 1_500_000])
@pytest.mark.parametrize("written", WRITTEN)
def test_json_may_have_the_picture_in_base64(size: int, written: Callable[[str], str]):
    data = bytes(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    body = json.dumps({"strength": 1, "image": written(base64_of(data)), "latent": [1]}).encode()
    assert read("application/json", body) == Upload(data, {"strength": 1, "latent": [1]})


@pytest.mark.parametrize("size", [300, 1_500_000])
def test_the_picture_may_be_escaped_as_json_allows(size: int):
    """PHP escapes each slash, .NET each plus sign."""
    data = bytes(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    text = base64_of(data).replace("/", "\\/").replace("+", "\\u002B")
    body = f'{{ "image"\t: "{text}", "model": "tiny"}}'.encode()
    assert read("application/json", body) == Upload(data, {"model": "tiny"})


@pytest.mark.parametrize("value", ["https://example.org/a.png", "data:image/png,%89PNG", "!", "aGk=aGk=", "ü", "a"])
def test_a_picture_that_is_no_base64_is_refused_and_not_echoed(value: str):
    error = refusal(422, "application/json", json.dumps({"image": value}).encode())
    assert error["field"] == "image"
    assert error["value"] == f"{len(value)} characters"
    assert "base64" in error["rule"]


@pytest.mark.parametrize("value", [1, True, [137, 80, 78, 71], {"data": "aGk="}])
def test_a_picture_in_json_is_text(value: Any):
    error = refusal(422, "application/json", json.dumps({"image": value}).encode())
    assert error == {
        "field": "image",
        "value": None,
        "rule": "must be text: base64, or a data: URL with base64",
    }


def test_null_is_no_picture():
    assert read("application/json", b'{"image": null, "seed": 1}') == Upload(None, {"seed": 1})


LARGE = base64_of(bytes(1_000_000))

TOO_LARGE = [
    {"latent": [0.123456] * 120_000},
    {"latent": [0.123456] * 120_000, "image": "aGk="},
    {"latent": [0.123456] * 120_000, "image": LARGE},
    {"picture": LARGE},
    {"attributes": {"image": LARGE}},
    {"attributes": {"image": LARGE}, "image": "aGk="},
]


@pytest.mark.parametrize("body", TOO_LARGE)
def test_json_is_bounded_beside_the_picture(body: dict[str, Any]):
    error = refusal(413, "application/json", json.dumps(body).encode())
    assert error["field"] == "body"
    assert "1000000 bytes" in error["rule"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (f'{{"image": "{LARGE}', 413),
        (f'{{"image": "{LARGE}"', 400),
        (f'{{"image": "\\x{LARGE}"}}', 400),
        (f'["image": "{LARGE}"]', 400),
    ],
)
def test_large_json_must_be_sound_too(body: str, status: int):
    assert refusal(status, "application/json", body.encode())["field"] == "body"


def test_where_json_takes_no_picture_it_is_refused_and_not_echoed():
    with pytest.raises(Problem) as caught:
        read("application/json", b'{"image": "aGk="}', how=uploads.read_json)
    assert caught.value.errors == [{"field": "image", "value": "2 bytes", "rule": "this call takes no picture"}]


@pytest.mark.parametrize("body", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b'{"a":' + b"[" * 200_000])
def test_malformed_json_is_400(body: bytes):
    assert refusal(400, "application/json", body) == {"field": "body", "rule": "must be JSON"}


@pytest.mark.parametrize("value", [[], 1, "text", None])
def test_json_that_is_no_object_is_422(value: Any):
    assert refusal(422, "application/json", json.dumps(value).encode())["rule"] == "must be a JSON object"
