"""Applications, the middleware around them, and exchanges driven by hand."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.server.lifetime import LifetimeMiddleware
from service.server.limits import BodyBudget
from service.server.middleware import RequestMiddleware
from service.telemetry.metrics import Metrics
from tests.service import fakes
from tests.service.fakes import TestClient

LIMIT = 1000


def surrounded(
    app: ASGIApp, metrics: Metrics, timeout: float = fakes.PATIENCE, body_budget: BodyBudget | None = None
) -> RequestMiddleware:
    """The application with the middleware that every request passes, but for admission."""
    budget = body_budget or BodyBudget(sys.maxsize, metrics)
    return RequestMiddleware(LifetimeMiddleware(app, metrics, LIMIT, budget), metrics, timeout)


def client_of(app: ASGIApp, metrics: Metrics, **options: Any) -> TestClient:
    return TestClient(surrounded(app, metrics), **options)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message["body"]), message.get("more_body", False)
    await PlainTextResponse(str(length))(scope, receive, send)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"facet_{name}", labels) or 0.0


class Conversation:
    """An ASGI exchange driven by hand: what the client sends, and when it leaves."""

    def __init__(
        self, app: ASGIApp, *, body: list[dict[str, Any]] | None = None, headers: dict[str, str] | None = None
    ):
        self.app, self.sent = app, []
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in body or [{"type": "http.request", "body": b"", "more_body": False}]:
            self.incoming.put_nowait(message)
        self.scope = {
            "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "scheme": "http",
            "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()], "root_path": "",
        }  # fmt: skip

    async def run(self) -> None:
        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        await self.app(self.scope, self.incoming.get, send)

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})


def play(story: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(fakes.PATIENCE):
            await story

    asyncio.run(bounded())


class Waiting:
    """An application that reads its body and then waits for ever in one stage."""

    def __init__(self, stage: str = "decode") -> None:
        self.stage, self.entered, self.cancelled = stage, asyncio.Event(), False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        try:
            with scope["state"]["context"].stage(self.stage):
                self.entered.set()
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
