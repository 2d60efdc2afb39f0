"""The calls that carry the load take a shorter way to the same handlers."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from starlette.requests import Request

from service.app import create_app
from service.routes import BUSY, router
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import TestClient


@pytest.fixture(name="client")
def _client(tmp_path: Path):
    fakes.write_bundle(tmp_path / "tiny")
    with fakes.serving(Settings(bundles=tmp_path, default_model="tiny")) as client:
        yield client


def test_every_busy_call_is_a_route_whose_handler_takes_the_request_alone():
    handlers = {route.path: route.endpoint for route in router.routes if route.path in BUSY}
    assert set(handlers) == set(BUSY)
    for handler in handlers.values():
        (parameter,) = inspect.signature(handler, eval_str=True).parameters.values()
        assert parameter.annotation is Request


@pytest.mark.parametrize("path", BUSY)
def test_busy_calls_do_not_reach_the_frameworks_router(client: TestClient, path: str, monkeypatch: pytest.MonkeyPatch):
    async def lost(*_):
        raise AssertionError("came the long way")

    monkeypatch.setattr(client.app.router, "app", lost)
    monkeypatch.setattr(client.app.router, "middleware_stack", lost)
    answer = client.post(path, files={"image": fakes.grey(40)} if path != "/v1/generate" else None, json=None)
    assert answer.status_code in (200, 415, 422), answer.text
    assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize("path", BUSY)
def test_other_methods_are_still_answered_by_the_framework(client: TestClient, path: str):
    body = fakes.problem(client.get(path), 405)
    assert body["status"] == 405


def test_busy_calls_are_described(tmp_path: Path):
    described = create_app(Settings(bundles=tmp_path)).openapi()["paths"]
    for path in BUSY:
        assert "requestBody" in described[path]["post"]
