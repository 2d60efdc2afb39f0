"""Admission: refuses work for which the models have no room, before the body is parsed.

Under overload most requests are refused, and each refusal takes processor time from those that are served. So this
decides by the head, and by the first bytes of a small body. Model and number of images are known only after parsing;
what this lets in, the batcher of the graph still refuses where it has no room (service.inference.batcher).
"""

from __future__ import annotations

import asyncio
import math
from functools import lru_cache
from typing import Protocol
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.api.uploads import JSON, content_type, is_picture
from service.bundle.manifest import GraphKind
from service.errors import Problem, QueueFullError
from service.telemetry.metrics import Metrics

# The graph that the work of each path needs: on a picture, and without one.
_GRAPHS: dict[str, tuple[GraphKind, GraphKind]] = {
    "/v1/encode": ("encoder", "encoder"),
    "/v1/generate": ("decoder", "decoder"),
    "/v1/edit": ("editor", "decoder"),
    "/v1/sweep": ("editor", "decoder"),
}
_MODEL_FIELD = b"model"
_LARGEST_LOOK = 65_536  # bytes of a body
_LOOK_SECONDS = 0.1  # a body that does not arrive in that time is not looked at


class Room(Protocol):
    """Which models have room (service.inference.registry.Models)."""

    def refusal(self, graph: GraphKind, any_model: bool) -> float | None:
        """Seconds until the graph of the default model, or of any, should have room; None where there is room now."""


class AdmissionMiddleware:
    """Answers 429 with a computed Retry-After. Needs the context of RequestMiddleware.

    A request for the default model is refused when that is full, a request that may name another model only when all
    are full.
    """

    def __init__(self, app: ASGIApp, models: Room, metrics: Metrics) -> None:
        self._app, self._models, self._rejected = app, models, metrics.rejected.labels("queue_full")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        graphs = _GRAPHS.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if graphs is None:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        kind = content_type(headers)
        # JSON comes with a picture or without.
        graphs = graphs[::-1] if kind == JSON else graphs[:1]
        seconds = self._refusal(graphs, any_model=False)
        if seconds is not None:
            may_name_model, receive = await _may_name_model(scope, headers, kind, receive)
            if may_name_model:
                seconds = self._refusal(graphs, any_model=True)
        if seconds is None:
            await self._app(scope, receive, send)
            return
        self._rejected.inc()
        context = scope["state"]["context"]
        context.endpoint = scope["path"]
        await problems.response(_full(math.ceil(seconds)), context.request_id)(scope, receive, send)

    def _refusal(self, graphs: tuple[GraphKind, ...], any_model: bool) -> float | None:
        """Seconds until one of the graphs should have room; None where one has."""
        waits = []
        for graph in dict.fromkeys(graphs):
            seconds = self._models.refusal(graph, any_model)
            if seconds is None:
                return None
            waits.append(seconds)
        return min(waits)


@lru_cache(maxsize=64)
def _full(seconds: int) -> Problem:
    """What is wrong with a request that there is no room for; under overload, a thousand requests a second."""
    return problems.translate(QueueFullError(seconds))


async def _may_name_model(scope: Scope, headers: Headers, kind: str, receive: Receive) -> tuple[bool, Receive]:
    """Whether a request may have a parameter `model`, and what to receive from afterwards."""
    if _MODEL_FIELD in unquote_to_bytes(scope["query_string"]):
        return True, receive
    if is_picture(kind):
        return False, receive
    length = headers.get("content-length", "")
    if not length.isdigit() or int(length) > _LARGEST_LOOK:
        return True, receive
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            message = await receive()
    except TimeoutError:
        return True, receive
    body = message.get("body", b"")
    # JSON may spell a name with escapes.
    may_name = message.get("more_body", False) or _MODEL_FIELD in body or ("json" in kind and b"\\" in body)
    return may_name, _replayed(message, receive)


def _replayed(message: Message, receive: Receive) -> Receive:
    """A `receive` that gives `message` once more, and then what follows."""
    left = [message]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
