"""Bodies: too large ones are refused as soon as that is known, and all together are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from service.server.limits import BodyBudget
from service.telemetry.metrics import Metrics
from tests.service import fakes
from tests.service.server.asgi import LIMIT, client_of, echo, surrounded, value


def test_a_body_within_the_limit_passes_untouched(metrics: Metrics):
    assert client_of(echo, metrics).post("/", content=b"x" * LIMIT).text == str(LIMIT)


def test_a_body_that_announces_too_much_is_413_before_it_is_read(metrics: Metrics):
    response = client_of(echo, metrics).post("/", content=b"x" * (LIMIT + 1))
    body = fakes.problem(response, 413)
    assert fakes.fields(body) == ["body"]
    assert str(LIMIT) in body["detail"]
    assert value(metrics, "requests_rejected_total", reason="body_too_large") == 1


def chunks() -> Iterator[bytes]:
    for _ in range(5):
        yield b"x" * 300


def test_a_body_that_announces_nothing_is_413_once_it_is_too_much(metrics: Metrics):
    response = client_of(echo, metrics).post("/", content=chunks())
    assert "content-length" not in response.request.headers
    fakes.problem(response, 413)


def test_a_body_that_lies_about_its_length_is_413(metrics: Metrics):
    response = client_of(echo, metrics).post("/", content=b"x" * 2000, headers={"Content-Length": "5"})
    fakes.problem(response, 413)


class Uploads:
    """Requests to a middleware whose application keeps each body until it is told to answer."""

    def __init__(self, metrics: Metrics, limit: int) -> None:
        self.bodies = BodyBudget(limit, metrics)
        self._middleware = surrounded(self._keep, metrics, body_budget=self.bodies)
        self.kept, self.answer = asyncio.Semaphore(0), asyncio.Event()

    async def _keep(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        self.kept.release()
        await self.answer.wait()
        await PlainTextResponse("thanks")(scope, receive, send)

    async def send(self, parts: list[int], promised: int | None = None) -> int:
        """Upload parts of so many bytes, and promise that many; gives the status."""
        messages = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in parts]
        messages[-1]["more_body"] = False
        sent: list[Any] = []

        async def receive():
            if messages:
                return messages.pop(0)
            await asyncio.Event().wait()

        async def send(message) -> None:
            sent.append(message)

        headers = [] if promised is None else [(b"content-length", str(promised).encode())]
        await self._middleware({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send)
        return sent[0]["status"]


@pytest.mark.parametrize("promised", [500, None])
def test_bodies_that_are_held_at_once_are_bounded(metrics: Metrics, promised: int | None):
    async def story() -> None:
        uploads = Uploads(metrics, limit=900)
        async with asyncio.timeout(fakes.PATIENCE):
            first = asyncio.create_task(uploads.send([300, 200]))
            await uploads.kept.acquire()
            assert uploads.bodies.held == value(metrics, "request_body_bytes") == 500
            assert await uploads.send([250, 250], promised) == 429
            assert value(metrics, "requests_rejected_total", reason="bodies_full") == 1
            assert uploads.bodies.held == 500  # what was refused is gone
            second = asyncio.create_task(uploads.send([400]))
            await uploads.kept.acquire()
            uploads.answer.set()
            assert [await first, await second] == [200, 200]
            assert uploads.bodies.held == 0
            assert await uploads.send([250, 250], promised) == 200

    asyncio.run(story())


def test_a_body_that_is_only_promised_keeps_nobody_out(metrics: Metrics):
    async def story() -> None:
        uploads = Uploads(metrics, limit=900)
        async with asyncio.timeout(fakes.PATIENCE):
            silent = asyncio.create_task(uploads.send([1], promised=900))
            await uploads.kept.acquire()
            other = asyncio.create_task(uploads.send([800], promised=800))
            await uploads.kept.acquire()
            uploads.answer.set()
            assert [await silent, await other] == [200, 200]

    asyncio.run(story())


def test_one_body_is_taken_however_little_all_may_have(metrics: Metrics):
    async def story() -> None:
        uploads = Uploads(metrics, limit=100)
        uploads.answer.set()
        async with asyncio.timeout(fakes.PATIENCE):
            assert await uploads.send([500, 400], promised=900) == 200

    asyncio.run(story())


@pytest.mark.parametrize("length", ["abc", "-1", "1e9", ""])
def test_a_senseless_length_is_not_believed(metrics: Metrics, length: str):
    response = client_of(echo, metrics).post("/", content=b"hello", headers={"Content-Length": length})
    assert response.text == "5"
