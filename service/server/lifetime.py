"""The inner middleware: ends a request whose deadline passes, whose client leaves, or whose body is too large.

It also answers what nobody else has answered, with a problem.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import problems
from service.errors import Problem, invalid
from service.request import Phase, RequestContext
from service.server.limits import BodyBudget, BodyLimit
from service.telemetry.metrics import Metrics

TIMEOUT_HEADER = "X-Request-Timeout"
_LEAST_SECONDS_TO_SEND = 5.0


class LifetimeMiddleware:
    """Needs the context of RequestMiddleware, whose `timeout` a request may lower by the header X-Request-Timeout.

    `max_body_bytes` limits each body, `body_budget` all that are held at once.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int, body_budget: BodyBudget) -> None:
        self._app, self._metrics, self._max_body_bytes, self._budget = app, metrics, max_body_bytes, body_budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context, headers = scope["state"]["context"], Headers(scope=scope)
        promised = headers.get("content-length", "")
        limit = BodyLimit(
            self._max_body_bytes,
            int(promised) if promised.isascii() and promised.isdigit() else 0,
            self._budget,
            self._metrics,
        )
        body = _Body(receive, limit, context)
        with self._metrics.in_flight.track_inprogress():
            try:
                await _while_connected(context, body, self._answer(scope, headers, body, send, context))
            finally:
                limit.close()

    async def _answer(self, scope: Scope, headers: Headers, body: _Body, send: Send, context: RequestContext) -> None:
        started = False

        async def send_once(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                # The reader has as long again, and never less than some seconds: the deadline of a batch passes at the
                # same moment as this one, and the answer that says so must not be cut off.
                if not deadline.expired():
                    more = max(context.timeout, _LEAST_SECONDS_TO_SEND)
                    deadline.reschedule(asyncio.get_running_loop().time() + more)
            await send(message)

        try:
            context.timeout = _timeout(headers, context.timeout)
            async with asyncio.timeout(context.remaining) as deadline:
                await self._app(scope, body.receive, send_once)
        except ClientDisconnect:
            raise
        except Exception as exc:
            if isinstance(exc, TimeoutError) and deadline.expired():
                problem = _timed_out(context)
            else:
                problem = problems.answered(exc)
            if started:  # too late for another status; the server closes the connection
                raise
            await problems.response(problem, context.request_id)(scope, body.receive, send)


async def _while_connected(context: RequestContext, body: _Body, answer: Coroutine[Any, Any, None]) -> None:
    """Run `answer` until it is done or the client leaves, which cancels it."""
    task, left = asyncio.current_task(), False

    async def watch() -> None:
        nonlocal left
        await body.client_left()
        # Servers report a disconnect too once the response is complete.
        if context.phase is not Phase.DONE:
            left = True
            task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        await answer
    except asyncio.CancelledError:
        # The server may have cancelled the task as well; that cancellation must not be swallowed.
        if not left or task.uncancel() > 0:
            raise
        context.client_left()
    except ClientDisconnect:
        context.client_left()
    finally:
        watcher.cancel()


def _timeout(headers: Headers, longest: float) -> float:
    """Seconds that the request may take: as its header says, at most `longest`. Raises a 422 Problem."""
    text = headers.get(TIMEOUT_HEADER)
    if text is None:
        return longest
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise invalid(TIMEOUT_HEADER, text, "must be a number of seconds above 0")
    return min(seconds, longest)


def _timed_out(context: RequestContext) -> Problem:
    if context.phase is Phase.BODY:
        return Problem(408, f"the body did not arrive within {context.timeout:g} s")
    return Problem(504, f"the {context.timeout:g} s for this request were over in the stage {context.position!r}")


class _Body:
    """The request's `receive`, shared by the application that reads the body and the watch for the client's leave."""

    def __init__(self, receive: Receive, limit: BodyLimit, context: RequestContext) -> None:
        self._receive, self._limit, self._context = receive, limit, context
        self._read = asyncio.Event()
        self._left = asyncio.Event()

    async def receive(self) -> Message:
        """The next part of the body, and after the last one nothing until the client leaves."""
        if self._read.is_set():
            await self._left.wait()
            return {"type": "http.disconnect"}
        self._limit.check_promise()
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._left.set()
        elif not message.get("more_body", False):
            self._read.set()
            self._context.body_received()
        self._limit.add(len(message.get("body", b"")))
        return message

    async def client_left(self) -> None:
        """Return when the client has closed its connection after sending the whole body."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left.set()
