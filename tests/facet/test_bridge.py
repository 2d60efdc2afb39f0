"""Coroutines, run for a caller that waits."""

from __future__ import annotations

import asyncio
import threading

import pytest

from facet import calls
from facet.bridge import Bridge, Waiting


class Inner:
    def __init__(self, fail: bool = False) -> None:
        self.fail, self.closed = fail, 0

    async def __aenter__(self):
        if self.fail:
            raise RuntimeError("cannot start")
        return self

    async def __aexit__(self, *_):
        self.closed += 1

    async def send(self, call):
        await asyncio.sleep(0)
        if call.path == "/v1/models/broken":
            raise OSError("broken")
        return call.path, call.image


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "facet"]


def test_calls_pass_through_with_their_picture_results_and_errors():
    before = len(own_threads())
    inner = Inner()
    waiting = Waiting(inner)
    path, image = waiting.send(calls.encode(b"data"))
    assert image == b"data"
    assert path == "/v1/encode"
    with pytest.raises(OSError, match="broken"):
        waiting.send(calls.model("broken"))
    waiting.close()
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
        bridge.run(inner.send(calls.models()))
