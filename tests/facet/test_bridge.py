"""A transport that is awaited, used by a client that waits."""

from __future__ import annotations

import threading

import httpx
import pytest

from facet.bridge import Bridge


class Inner(httpx.AsyncBaseTransport):
    def __init__(self, fail: bool = False) -> None:
        self.fail, self.closed = fail, 0

    async def __aenter__(self):
        if self.fail:
            raise RuntimeError("cannot start")
        return self

    async def __aexit__(self, *_):
        self.closed += 1

    async def handle_async_request(self, request):
        if request.url.path == "/broken":
            raise httpx.ReadError("broken")
        return httpx.Response(200, content=await request.aread(), headers={"X-Path": request.url.path})


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "facet"]


def test_requests_pass_through_with_their_body_headers_and_errors():
    before = len(own_threads())
    inner = Inner()
    with httpx.Client(transport=Bridge(inner), base_url="http://x") as http:
        answer = http.post("/path", files={"image": b"data"})
        assert b"data" in answer.content
        assert answer.headers["x-path"] == "/path"
        with pytest.raises(httpx.ReadError, match="broken"):
            http.get("/broken")
    assert inner.closed == 1
    assert len(own_threads()) == before


def test_what_cannot_start_leaves_no_thread():
    before = len(own_threads())
    with pytest.raises(RuntimeError, match="cannot start"):
        Bridge(Inner(fail=True))
    assert len(own_threads()) == before


def test_closing_twice_is_closing_once_and_nothing_comes_after():
    inner = Inner()
    bridge = Bridge(inner)
    bridge.close()
    bridge.close()
    assert inner.closed == 1
    with pytest.raises(RuntimeError, match="closed"):
        bridge.handle_request(httpx.Request("GET", "http://x"))
