"""What surrounds every request: id, timings, deadline, size limit, metrics, a client that leaves, errors nobody caught.

A plain ASGI middleware, so that bodies stream through it untouched.
"""

from __future__ import annotations

import asyncio
import math
import random
import re
import sys
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import headers as security
from service import logs, problems
from service.batcher import QueueFullError
from service.early import Refusal, refused
from service.limits import Bodies, Hold
from service.metrics import Metrics
from service.problems import Problem, invalid
from service.tracing import Trace, Tracing

TIMEOUT_HEADER = "X-Request-Timeout"
DONE = "done"
_LEAST_SECONDS_TO_SEND = 5.0
_CLIENT_LEFT = 499  # nobody is there to read it; nginx logs the same
_NO_ID = b"-" * 32
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class Call:
    """One request as it passes through: handlers add stages and headers, the middleware sends them.

    `where` names what the request is in: "body", a stage, "queue", "respond" or DONE. `timeout` is in seconds from its
    arrival. What is entered into `resources` is released when the request is over, however it ends.
    """

    def __init__(self, request_id: str, metrics: Metrics, timeout: float, trace: Trace | None = None) -> None:
        self.request_id, self.timeout, self.trace = request_id, timeout, trace
        self.headers: dict[str, str] = {}
        self.images, self.status = 0, 0
        self.key: str | None = None  # its name, where it was asked for
        self.hold: Hold | None = None  # what it has taken of that key's limits
        self.where = "body"
        self.resources = ExitStack()
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}
        self._metrics = metrics

    def stage(self, name: str) -> Stage:
        """A context that times one stage for `Server-Timing`, the metrics, the log and the trace."""
        return Stage(self, name)

    def add(self, name: str, seconds: float) -> None:
        """Record `seconds` of a stage that was timed elsewhere."""
        self._stages[name] = self._stages.get(name, 0.0) + seconds
        self._metrics.stage_duration.labels(name).observe(seconds)

    def count(self, operation: str, images: int) -> None:
        """Count the faces that this request encodes, generates or edits."""
        self.images += images
        self._metrics.images.labels(operation).inc(images)

    def charge(self, images: int) -> None:
        """It turns out to have so many images to work on. Raises a Problem where its key may not have them now."""
        if self.hold:
            self.hold.raise_to(images)

    @property
    def delivered(self) -> bool:
        """Whether its client got all of what it asked for."""
        return self.where == DONE and self.status < 400

    @property
    def identity(self) -> dict[str, str]:
        """What tells this request's lines in the log from others'."""
        ids = {"request_id": self.request_id}
        return ids | {"trace_id": self.trace.trace_id} if self.trace else ids

    @property
    def facts(self) -> dict[str, Any]:
        """What may be told of it in a log or a trace: nothing that its client sent."""
        told: dict[str, Any] = {}
        if model := self.headers.get("X-Facet-Model"):
            told["model"] = model
        if self.images:
            told["images"] = self.images
        if self.key:
            told["key"] = self.key
        return told

    @property
    def stages(self) -> dict[str, float]:
        """Milliseconds of each stage."""
        return {name: round(1000 * seconds, 2) for name, seconds in self._stages.copy().items()}

    @property
    def elapsed(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self._started

    @property
    def remaining(self) -> float:
        """Seconds until its time is up; negative afterwards."""
        return self.timeout - self.elapsed

    @property
    def server_timing(self) -> str:
        return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in self._stages.copy().items())

    def end(self, method: str, endpoint: str, status: int, ended_in: str | None = None) -> None:
        """It is over; tell the metrics, the log and the trace, and where in its way if its client left."""
        elapsed, facts = self.elapsed, self.facts
        self._metrics.requests.labels(endpoint, str(status)).inc()
        self._metrics.request_duration.labels(endpoint).observe(elapsed)
        if ended_in:
            facts["ended_in"] = ended_in
        times = {"duration_ms": round(1000 * elapsed, 2), "stages": self.stages}
        logs.access(method, endpoint, status, times | facts)
        if self.trace:
            self.trace.end(endpoint, status, facts | {"request_id": self.request_id})

    def refuse(self, method: str, path: str, seconds: float) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """It is over, since there is no room, and may be tried again in so many seconds: headers and body of the 429.

        `path` must be one of the few that are refused early.
        """
        self._metrics.rejected.labels("queue_full").inc()
        self.end(method, path, 429)
        headers, body = _refusal(math.ceil(seconds))
        own = self.request_id.encode()
        body = body.replace(_NO_ID, own)
        return [(b"x-request-id", own), (b"content-length", b"%d" % len(body)), *headers], body


class Stage:
    """One stage of a call. Its `attributes` go to the trace."""

    __slots__ = ("_call", "_name", "_started", "attributes")

    def __init__(self, call: Call, name: str) -> None:
        self._call, self._name = call, name
        self.attributes: dict[str, Any] = {}

    def begin(self) -> Stage:
        self._call.where = self._name
        self._started = time.perf_counter()
        return self

    def end(self, exc: BaseException | None = None, seconds: float | None = None) -> None:
        """It is over, by `exc` if it failed; it took `seconds`, if they were measured more closely elsewhere."""
        seconds = time.perf_counter() - self._started if seconds is None else seconds
        self._call.add(self._name, seconds)
        if trace := self._call.trace:
            trace.stage(self._name, self._started, self._started + seconds, self.attributes, exc)

    def __enter__(self) -> Stage:
        return self.begin()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, traceback: Any) -> None:
        self.end(exc)


def identifier(headers: Headers) -> str:
    """The request's own id, if it has a sound one, or a new one."""
    offered = headers.get("x-request-id", "")
    return offered if _REQUEST_ID.fullmatch(offered) else new_identifier()


def new_identifier() -> str:
    """Unlike uuid4, without a system call: nobody needs an id that cannot be guessed."""
    return f"{random.getrandbits(128):032x}"


@lru_cache(maxsize=64)
def _refusal(seconds: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """What all refusals have in common, `_NO_ID` in the place of the request's own."""
    answer = problems.response(problems.translate(QueueFullError(seconds)), _NO_ID.decode())
    security.complete(answer.raw_headers)
    return [header for header in answer.raw_headers if header[0] != b"content-length"], answer.body


class CallMiddleware:
    """Wraps the whole application.

    `timeout` is in seconds; a request may ask for less. A client that leaves cancels what its request is in. `refusal`
    says for how many seconds work is refused (service.early). `tracing` traces each, where it is given; `bodies` counts
    their bodies, and those of others that share it.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        max_body_bytes: int,
        timeout: float,
        refusal: Refusal = lambda *_: None,
        tracing: Tracing | None = None,
        bodies: Bodies | None = None,
    ) -> None:
        self._app, self._metrics, self._max_body_bytes, self._timeout = app, metrics, max_body_bytes, timeout
        self._bodies = bodies or Bodies(sys.maxsize, metrics)
        self._refusal, self._tracing = refusal, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = identifier(headers)
        tracing = self._tracing if scope["path"] not in logs.QUIET else None
        trace = tracing.begin(scope["method"], headers) if tracing else None
        call = Call(request_id, self._metrics, self._timeout, trace)
        token = logs.request.set(call.identity)
        try:
            seconds, receive = await refused(self._refusal, scope, headers, receive)
            if seconds is not None:
                await self._refuse(call, seconds, scope, send)
            else:
                await self._serve(call, headers, scope, receive, send)
        finally:
            logs.request.reset(token)

    async def _refuse(self, call: Call, seconds: float, scope: Scope, send: Send) -> None:
        headers, body = call.refuse(scope["method"], scope["path"], seconds)
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _serve(self, call: Call, headers: Headers, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["call"] = call
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                call.where = "respond"
                status = call.status = message["status"]
                sent = MutableHeaders(scope=message)
                security.complete(sent.raw)
                sent["X-Request-ID"] = call.request_id
                if timing := call.server_timing:
                    sent["Server-Timing"] = timing
                for name, value in call.headers.items():
                    sent[name] = value
            elif not message.get("more_body", False):
                call.where = DONE
            await send(message)

        limit = self._limit(headers)
        body = _Body(receive, limit, call)
        ended_in = None
        with self._metrics.in_flight.track_inprogress(), call.resources:
            try:
                answer = self._answer(scope, headers, body, send_with_headers, call)
                if not await self._while_connected(call, body, answer):
                    status, ended_in = _CLIENT_LEFT, call.where
                    self._metrics.cancelled.labels(call.where).inc()
            finally:
                limit.close()
                # The matched route's template, so that the label has few values; anything unmatched is one value.
                call.end(scope["method"], getattr(scope.get("route"), "path", "other"), status, ended_in)

    async def _while_connected(self, call: Call, body: _Body, answer: Coroutine[Any, Any, None]) -> bool:
        """Run `answer` until it is done, True, or until the client leaves, False; then it has been cancelled."""
        task, left = asyncio.current_task(), False

        async def watch() -> None:
            nonlocal left
            await body.client_left()
            # Servers report a disconnect too once the response is complete.
            if call.where != DONE:
                left = True
                task.cancel()

        watcher = asyncio.create_task(watch())
        try:
            await answer
        except asyncio.CancelledError:
            # The server may cancel us as well, and its wish is not ours to swallow.
            if not left or task.uncancel() > 0:
                raise
            return False
        except ClientDisconnect:
            return False
        finally:
            watcher.cancel()
        return True

    async def _answer(self, scope: Scope, headers: Headers, body: _Body, send: Send, call: Call) -> None:
        started = False

        async def send_once(message: Message) -> None:
            nonlocal started
            if not started:
                started = True
                # Whoever reads gets as long again, and never less than some seconds: a batch's own deadline passes at
                # the same moment as this one, and its answer must not be cut off.
                if not deadline.expired():
                    more = max(call.timeout, _LEAST_SECONDS_TO_SEND)
                    deadline.reschedule(asyncio.get_running_loop().time() + more)
            await send(message)

        try:
            call.timeout = self._timeout_of(headers)
            async with asyncio.timeout(call.remaining) as deadline:
                await self._app(scope, body.receive, send_once)
        except ClientDisconnect:
            raise
        except Exception as exc:
            if isinstance(exc, TimeoutError) and deadline.expired():
                problem = self._late(call)
            else:
                problem = problems.answered(exc)
            if started:  # too late for another status; the server closes the connection
                raise
            await problems.response(problem, call.request_id)(scope, body.receive, send)

    def _timeout_of(self, headers: Headers) -> float:
        """Seconds this request may take, by its own header or as configured. Raises a 422 Problem."""
        text = headers.get(TIMEOUT_HEADER)
        if text is None:
            return self._timeout
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            raise invalid(TIMEOUT_HEADER, text, "must be a number of seconds above 0")
        return min(seconds, self._timeout)

    def _late(self, call: Call) -> Problem:
        if call.where == "body":
            return Problem(408, f"the body did not arrive within {call.timeout:g} s")
        return Problem(504, f"the {call.timeout:g} s for this request were over in the stage {call.where!r}")

    def _limit(self, headers: Headers) -> _Limit:
        promised = headers.get("content-length", "")
        return _Limit(
            self._max_body_bytes,
            int(promised) if promised.isascii() and promised.isdigit() else 0,
            self._metrics.rejected.labels("body_too_large"),
            self._bodies,
        )


class _Limit:
    """Counts a body's bytes, for itself and among all others, until its request is over.

    Raises a 413 Problem past its limit, a 429 Problem past that of all together, at once where the headers promise as
    much. What is only promised does not count, or those who never send it would keep others out.
    """

    def __init__(self, limit: int, promised: int, refused, bodies: Bodies) -> None:
        self._limit, self._promised, self._refused, self._bodies, self._seen = limit, promised, refused, bodies, 0

    def check_promise(self) -> None:
        if self._promised > self._limit:
            raise self._too_large(f"has {self._promised} bytes")
        if not self._seen:
            self._bodies.check(0, self._promised)

    def add(self, count: int) -> None:
        self._seen += count
        self._bodies.held += count
        if self._seen > self._limit:
            raise self._too_large(f"has more than {self._limit} bytes")
        self._bodies.check(self._seen, 0)

    def close(self) -> None:
        """The request is over, and its body is no longer held."""
        self._bodies.held -= self._seen
        self._seen = 0

    def _too_large(self, found: str) -> Problem:
        self._refused.inc()
        rule = f"at most {self._limit} bytes are accepted"
        return Problem(413, f"the request body {found}; {rule}", [{"field": "body", "rule": rule}])


class _Body:
    """The request's `receive`, shared by the application that reads the body and the watch for the client's leave."""

    def __init__(self, receive: Receive, limit: _Limit, call: Call) -> None:
        self._receive, self._limit, self._call = receive, limit, call
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
            self._call.where = "handler"
        self._limit.add(len(message.get("body", b"")))
        return message

    async def client_left(self) -> None:
        """Return when the client has closed its connection after sending the whole body."""
        await self._read.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left.set()
