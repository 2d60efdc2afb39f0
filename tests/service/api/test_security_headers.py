"""What a browser may make of an answer, and which pages may ask."""

from __future__ import annotations

import pytest

from service.api import security_headers
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import TestClient

PAGE = "https://shop.example"


def check(found) -> None:
    assert found["x-content-type-options"] == "nosniff"
    assert found["referrer-policy"] == "no-referrer"
    assert found["cross-origin-resource-policy"] == "same-origin"
    assert "default-src 'none'" in found["content-security-policy"]
    assert "frame-ancestors 'none'" in found["content-security-policy"]
    for name, count in ((name, len(found.get_list(name))) for name in found):
        assert count == 1, name


@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/healthz", "/openapi.json", "/nowhere"])
def test_answers_run_nothing_and_are_not_kept(client: TestClient, path: str):
    found = client.get(path).headers
    check(found)
    assert found["cache-control"] == "no-store"


def test_pictures_and_problems_too(client: TestClient, monkeypatch):
    drawn = client.post("/v1/generate", json={})
    assert drawn.headers["content-type"] == "image/png"
    wrong = client.post("/v1/generate", json={"count": 0})
    monkeypatch.setattr(fakes.model_of(client).decoder, "refusal", lambda: 1.0)
    refused = client.post("/v1/generate", json={})
    assert (wrong.status_code, refused.status_code) == (422, 429)
    for answer in (drawn, wrong, refused):
        check(answer.headers)
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/studio/studio.js", "/docs", "/docs/swagger-ui.css"])
def test_pages_keep_their_own(client: TestClient, path: str):
    found = client.get(path).headers
    check(found)
    assert found["cache-control"] == "no-cache"
    assert "script-src 'self'" in found["content-security-policy"]
    assert "unsafe" not in found["content-security-policy"]


def test_what_an_answer_brings_stays():
    own = [(b"cache-control", b"max-age=60"), (b"x-more", b"1")]
    completed = own.copy()
    security_headers.complete(completed)
    assert completed[:2] == own
    assert [name for name, _ in completed].count(b"cache-control") == 1


def test_no_other_page_may_ask_by_default(client: TestClient):
    answer = client.post("/v1/generate", json={}, headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    fakes.problem(client.options("/v1/generate", headers=preflight(PAGE)), 405)


def preflight(origin: str) -> dict[str, str]:
    params = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return {"Origin": origin, **params}


@pytest.fixture
def shared(settings: Settings):
    with fakes.serving(settings.model_copy(update={"cors_origins": frozenset({PAGE})})) as client:
        yield client


def test_the_named_origins_may_ask(shared: TestClient):
    allowed = shared.options("/v1/generate", headers=preflight(PAGE))
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in allowed.headers
    answer = shared.post("/v1/generate", json={}, headers={"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert {"X-Facet-Seed", "X-Request-ID", "Retry-After"} <= set(
        answer.headers["access-control-expose-headers"].split(", ")
    )


def test_others_may_not(shared: TestClient):
    for origin in ("https://other.example", f"{PAGE}.example", "null"):
        assert shared.options("/v1/generate", headers=preflight(origin)).status_code == 400
        answer = shared.post("/v1/generate", json={}, headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers


def test_a_page_can_read_refusals(shared: TestClient, monkeypatch):
    monkeypatch.setattr(fakes.model_of(shared).decoder, "refusal", lambda: 1.0)
    answer = shared.post("/v1/generate", json={}, headers={"Origin": PAGE})
    assert answer.status_code == 429
    assert answer.headers["access-control-allow-origin"] == PAGE
