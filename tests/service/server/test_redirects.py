"""Redirects of a trailing slash are relative, so they keep host, scheme and a prefix that a proxy strips."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest

from service.server.redirects import without_slash
from tests.service.fakes import TestClient


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/docs/", "/docs"),
        ("/v1/models/", "/v1/models"),
        ("/v1/models/tiny/", "/v1/models/tiny"),
        ("/healthz/", "/healthz"),
        ("/docs/?a=b%20c", "/docs?a=b%20c"),
    ],
)
def test_a_trailing_slash_is_left_out_behind_any_prefix(client: TestClient, path: str, target: str):
    response = client.get(path, follow_redirects=False)
    assert response.status_code == 307
    location = response.headers["location"]
    for outside in ("http://testserver", "https://faces.example/facet", "https://faces.example/a/b"):
        assert urljoin(outside + path, location) == outside + target
    assert client.get(path).status_code == 200


def test_every_slash_at_the_end_is_left_out(client: TestClient):
    assert client.get("/v1/models//", follow_redirects=False).headers["location"] == "../../models"


def test_a_post_stays_a_post(client: TestClient):
    assert client.post("/v1/generate/", json={"seed": 1}).headers["content-type"].startswith("image/")


@pytest.mark.parametrize("name", ["a%2Fb", "a:reload", "%E4%BA%BA"])
def test_the_name_stays_as_it_was_written(name: str):
    scope = {"raw_path": f"/v1/models/{name}/".encode(), "query_string": b""}
    assert urljoin(f"http://x/facet/v1/models/{name}/", without_slash(scope)) == f"http://x/facet/v1/models/{name}"


def test_the_document_names_the_server_that_it_came_from(client: TestClient):
    (server,) = client.get("/openapi.json").json()["servers"]
    assert urljoin("https://faces.example/facet/openapi.json", server["url"]) == "https://faces.example/facet/"
