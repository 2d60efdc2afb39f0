"""Photographs that are kept on request, over HTTP."""

from __future__ import annotations

import pytest

from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import TestClient, grey


def test_a_kept_photograph_stands_for_itself_in_every_call(client: TestClient):
    kept = client.post("/v1/photos", files={"image": ("me.png", grey(20))}).json()
    assert kept["seconds"] == 900
    name = {"photo": kept["photo"]}
    assert client.post("/v1/encode", json=name).json()["width"] == 178
    sent = client.post("/v1/edit", data={"attributes": '{"Smiling": 1}'}, files={"image": ("me.png", grey(20))})
    for _ in range(3):
        named = client.post("/v1/edit", json={"attributes": {"Smiling": 1}, **name})
        assert named.status_code == 200
        assert named.content == sent.content
    swept = client.post("/v1/sweep", json={"attribute": "Smiling", "steps": 2, **name})
    assert swept.status_code == 200


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/edit", "/v1/sweep"])
def test_what_is_not_kept_is_gone(client: TestClient, path: str):
    params = {"/v1/edit": {"attributes": {}}, "/v1/sweep": {"attribute": "Smiling"}}.get(path, {})
    body = fakes.problem(client.post(path, json={"photo": "00ff", **params}), 410)
    assert fakes.fields(body) == ["photo"]


def test_a_service_may_keep_none(settings: Settings):
    with fakes.serving(settings.model_copy(update={"photo_store_bytes": 0})) as client:
        answer = client.post("/v1/photos", content=grey(20), headers={"Content-Type": "image/png"})
        assert "FACET_PHOTO_STORE_BYTES" in fakes.problem(answer, 404)["detail"]


def test_what_is_no_picture_is_not_kept(client: TestClient):
    fakes.problem(client.post("/v1/photos", content=b"nothing", headers={"Content-Type": "image/png"}), 415)
