"""A picture and its parameters arrive in three ways and mean the same in each."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from service import uploads
from service.problems import Problem
from service.uploads import Upload


def read(content_type: str | None, body: bytes, query: dict[str, Any] | list[tuple[str, Any]] | None = None) -> Upload:
    headers = [] if content_type is None else [(b"content-type", content_type.encode())]
    scope = {
        "type": "http",
        "app": None,
        "method": "POST",
        "path": "/",
        "query_string": urlencode(query or {}).encode(),
        "headers": headers,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return asyncio.run(uploads.read(Request(scope, receive)))


def form(
    files: list[tuple[str, tuple[str, bytes]]] | None = None, fields: dict[str, Any] | None = None
) -> tuple[str, bytes]:
    request = httpx.Request("POST", "http://test", files=files or [("x", (None, b""))], data=fields)
    return request.headers["content-type"], request.read()


def image(data: bytes = b"pixels") -> tuple[str, tuple[str, bytes]]:
    return ("image", ("face.png", data))


def refusal(status: int, content_type: str | None, body: bytes, query: Any = None) -> dict[str, Any]:
    with pytest.raises(Problem) as caught:
        read(content_type, body, query)
    assert caught.value.status == status
    return caught.value.errors[0]


def test_a_form_gives_the_file_and_the_fields():
    assert read(*form([image()], {"strength": "0.5", "model": "tiny"})) == Upload(
        b"pixels", {"strength": "0.5", "model": "tiny"}
    )


@pytest.mark.parametrize(
    "content_type",
    [
        "image/png",
        "IMAGE/PNG",
        "image/jpeg; q=1",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "",
        None,
    ],
)
def test_a_raw_body_is_the_picture_and_the_query_its_parameters(content_type: str | None):
    assert read(content_type, b"\xff\xd8 raw", {"strength": 2}) == Upload(b"\xff\xd8 raw", {"strength": "2"})


def test_no_body_is_no_picture():
    assert read("image/png", b"") == Upload(None, {})


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_gives_fields_and_no_picture(content_type: str):
    assert read(content_type, b'{"latent": [1, 2]}') == Upload(None, {"latent": [1, 2]})


def test_a_query_joins_a_form_and_json():
    assert read(*form([image()]), {"model": "tiny"}).fields["model"] == "tiny"
    assert read("application/json", b"{}", {"model": "tiny"}).fields == {"model": "tiny"}


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "video/mp4", "multipart/mixed; boundary=x"])
def test_another_content_type_is_415_and_says_what_is_accepted(content_type: str):
    error = refusal(415, content_type, b"...")
    assert error["field"] == "Content-Type"
    assert error["value"] == content_type.partition(";")[0]
    assert "multipart/form-data" in error["rule"]
    assert "application/json" in error["rule"]


@pytest.mark.parametrize("body", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b'{"a":' + b"[" * 200_000])
def test_malformed_json_is_400(body: bytes):
    assert refusal(400, "application/json", body) == {"field": "body", "rule": "must be JSON"}


@pytest.mark.parametrize("value", [[], 1, "text", None])
def test_json_that_is_no_object_is_422(value: Any):
    assert refusal(422, "application/json", json.dumps(value).encode())["rule"] == "must be a JSON object"


def test_a_parameter_in_two_places_is_refused():
    assert refusal(422, *form([image()], {"model": "a"}), {"model": "b"})["field"] == "model"
    assert refusal(422, "application/json", b'{"model": "a"}', {"model": "b"})["field"] == "model"


def test_a_parameter_given_twice_is_refused():
    assert refusal(422, "image/png", b"x", [("model", "a"), ("model", "b")])["field"] == "model"
    content_type, body = form([image()], {"model": ["a", "b"]})
    assert refusal(422, content_type, body)["field"] == "model"


def test_several_pictures_are_refused():
    assert refusal(422, *form([image(), image()]))["field"] == "image"


def test_a_picture_must_be_a_file():
    error = refusal(422, *form(fields={"image": "face.png"}))
    assert error["field"] == "image"
    assert error["value"] == "face.png"


def test_only_the_picture_may_be_a_file():
    error = refusal(422, *form([image(), ("mask", ("mask.png", b"m"))]))
    assert error["field"] == "mask"


def test_a_form_without_a_picture_has_none():
    content_type, body = form(fields={"model": "tiny"})
    assert read(content_type, body).image is None


def test_an_empty_file_is_an_empty_picture_and_not_a_missing_one():
    assert read(*form([image(b"")])).image == b""


MALFORMED = [
    ("multipart/form-data", b"--x\r\n\r\n"),
    ("multipart/form-data; boundary=x", b"this is no form"),
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nhi\r\n--x--\r\n"),
    ("multipart/form-data; boundary=x", b"--x\r\nBad Header Here\r\n\r\nhi\r\n--x--\r\n"),
    ("multipart/form-data; boundary=x", b"--y\r\nContent-Disposition: form-data; name=a\r\n\r\nhi\r\n--y--\r\n"),
]


@pytest.mark.parametrize(("content_type", "body"), MALFORMED)
def test_a_malformed_form_is_400(content_type: str, body: bytes):
    with pytest.raises((HTTPException, Problem)) as caught:
        read(content_type, body)
    assert (getattr(caught.value, "status_code", None) or caught.value.status) == 400


def test_a_form_with_too_many_fields_is_400():
    with pytest.raises(HTTPException) as caught:
        read(*form(fields={f"field{i}": "x" for i in range(60)}))
    assert caught.value.status_code == 400


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 1


def test_parameters_are_checked_against_a_schema():
    assert Upload(None, {"size": "3"}).parameters(Wanted).size == 3
    with pytest.raises(ValidationError):
        Upload(None, {"siez": "3"}).parameters(Wanted)


def test_a_form_that_finds_no_room_on_disk_is_503(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uploads.log, "error", lambda *_: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(Problem) as caught:
        read(*form([image(bytes(2_000_000))]))
    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"]
    assert read(*form([image(bytes(500_000))])).image == bytes(500_000)  # small ones need no disk
