"""What responses look like: formats by Accept, and headers."""

from __future__ import annotations

import base64

import pytest

from tests.service.api.helpers import JSON, MEAN_FACE, PNG, edit, edit_photo, facts, generate, stages
from tests.service.fakes import TestClient, fields, grey, pixels, problem


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_accept_chooses_the_format(client: TestClient, kind: str):
    response = generate(client, {"Accept": f"image/{kind}"}, attributes={"Smiling": 0}, temperature=0)
    assert response.headers["content-type"] == f"image/{kind}"
    assert abs(pixels(response.content).astype(int) - MEAN_FACE).max() <= 2


@pytest.mark.parametrize("accept", ["*/*", "image/*", "image/png;q=0.1"])
def test_without_a_preference_pictures_are_png(client: TestClient, accept: str):
    assert generate(client, {"Accept": accept}).headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("accept", "kind", "expected"),
    [
        ("*/*", "jpg", "jpeg"), ("image/*", "webp", "webp"), ("image/png, */*;q=0.5", "jpeg", "png"),
        ("image/png", "jpeg", "png"), ("image/webp, image/jpeg", "jpeg", "jpeg"),
    ],
)  # fmt: skip
def test_of_what_is_accepted_the_format_chooses(client: TestClient, accept: str, kind: str, expected: str):
    headers = {"Accept": accept}
    assert generate(client, headers, format=kind).headers["content-type"] == f"image/{expected}"
    edited = edit_photo(client, grey(20), headers, attributes={"Smiling": 1}, format=kind)
    assert edited.headers["content-type"] == f"image/{expected}"
    swept = client.post(
        "/v1/sweep", json={"seed": 1, "attribute": "Smiling", "steps": 2, "format": kind}, headers=headers
    )
    assert swept.headers["content-type"] == f"image/{expected}"


def test_json_holds_the_same_picture_as_the_bytes(client: TestClient):
    params = {"attributes": {"Smiling": 0.5}, "seed": 3}
    data = base64.b64decode(facts(generate(client, JSON, **params))["images"][0]["data"], validate=True)
    assert data == generate(client, PNG, **params).content


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pictures_in_json_have_the_requested_format(client: TestClient, kind: str):
    (image,) = facts(generate(client, JSON, format=kind, quality=30))["images"]
    assert image["media_type"] == f"image/{kind}"
    assert pixels(base64.b64decode(image["data"])).shape == (8, 8, 3)


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/edit"])
def test_an_accept_that_cannot_be_met_is_406(client: TestClient, path: str):
    files = {"image": ("face.png", grey(20))} if path == "/v1/edit" else None
    content = {} if files else {"json": {}}
    response = client.post(path, files=files, headers={"Accept": "text/html"}, **content)
    assert fields(problem(response, 406)) == ["Accept"]


def test_every_answer_has_a_request_id(client: TestClient):
    assert generate(client).headers["x-request-id"]
    assert generate(client, {"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("/nowhere", headers={"X-Request-ID": "mine-2"}).headers["x-request-id"] == "mine-2"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models", "/openapi.json"])
def test_answers_to_get_have_a_request_id_too(client: TestClient, path: str):
    assert client.get(path).headers["x-request-id"]


def test_answers_say_which_model_made_them(client: TestClient):
    assert generate(client).headers["x-facet-model"] == "tiny@1.2.3"
    assert edit(client, attributes={}).headers["x-facet-model"] == "tiny@1.2.3"
    assert client.post("/v1/encode", content=grey(1)).headers["x-facet-model"] == "tiny@1.2.3"


def test_only_seeded_answers_have_a_seed(client: TestClient):
    assert generate(client, seed=5).headers["x-facet-seed"] == "5"
    assert "x-facet-seed" not in edit(client, attributes={}).headers


def test_server_timing_names_each_stage_once(client: TestClient):
    assert stages(generate(client)) == ["queue", "infer", "encode"]
    assert stages(edit(client, attributes={})) == ["decode", "align", "queue", "infer", "encode"]
    assert stages(client.post("/v1/encode", content=grey(1))) == ["decode", "align", "queue", "infer"]
