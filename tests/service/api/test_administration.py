"""Metrics and reloading move to a port of their own, where the operator asks for one."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager

import httpx
import pytest
import uvicorn

from service.__main__ import AdminServer, serve
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import TestClient

TOKEN = "correct horse"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def apart(settings: Settings) -> Settings:
    return Settings(**settings.model_dump(exclude={"admin_token", "admin_port"}), admin_token=TOKEN, admin_port=9999)


def test_by_default_there_is_one_port(client: TestClient):
    assert client.app.state.administration is None
    assert client.get("/metrics").status_code == 200


def test_the_main_port_lacks_what_moved(apart: Settings):
    with fakes.serving(apart) as client:
        fakes.problem(client.get("/metrics"), 404)
        fakes.problem(client.post("/v1/models/tiny:reload", headers=BEARER), 405)
        assert not {"/metrics", "/v1/models/{name}:reload"} & set(client.get("/openapi.json").json()["paths"])
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        assert client.post("/v1/generate", json={}).status_code == 200


def test_the_other_port_has_that_and_nothing_else(apart: Settings):
    with fakes.serving(apart) as client:
        other = TestClient(client.app.state.administration)
        assert client.post("/v1/generate", json={}).status_code == 200
        assert 'facet_images_total{operation="generate"} 1.0' in other.get("/metrics").text
        assert other.post("/v1/models/tiny:reload", headers=BEARER).status_code == 200
        fakes.problem(other.post("/v1/models/tiny:reload"), 401)
        assert other.get("/healthz").json() == other.get("/readyz").json() == {"status": "ok"}
        for path in ("/", "/docs", "/openapi.json", "/v1/models", "/studio/studio.js"):
            fakes.problem(other.get(path), 404)
        fakes.problem(other.post("/v1/generate", json={}), 404)


@contextmanager
def listening(settings: Settings):
    """Both servers on free ports, as the command runs them; gives their addresses and the means to end them."""
    app = fakes.application(settings)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    options = {"log_config": None, "access_log": False, "timeout_graceful_shutdown": 5}
    first = uvicorn.Server(uvicorn.Config(app, **options))
    beside = AdminServer(uvicorn.Config(app.state.administration, **options))
    thread = threading.Thread(target=lambda: asyncio.run(serve(first, beside, sockets[1], sockets[:1])))
    thread.start()
    try:
        yield [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in sockets], first, thread
    finally:
        first.should_exit = True
        thread.join(fakes.PATIENCE)
        assert not thread.is_alive()


def test_both_listen_and_both_end(apart: Settings):
    with listening(apart) as ((main, other), first, thread):
        with httpx.Client(timeout=fakes.PATIENCE, transport=httpx.HTTPTransport(retries=5)) as client:
            assert client.get(f"{other}/metrics").status_code == 200
            assert client.get(f"{main}/metrics").status_code == 404
            assert client.post(f"{main}/v1/generate", json={}).status_code == 200
            assert 'endpoint="/v1/generate"' in client.get(f"{other}/metrics").text
        first.should_exit = True
        thread.join(fakes.PATIENCE)
        assert not thread.is_alive()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{other}/metrics")
