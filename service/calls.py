"""What surrounds every request: its id, its stage timings, its size limit, its metrics, and errors nobody caught.

A plain ASGI middleware, so that bodies stream through it untouched.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import problems
from service.metrics import Metrics
from service.problems import Problem

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
log = logging.getLogger(__name__)


class Call:
    """One request as it passes through: handlers add stages and headers, the middleware sends them."""

    def __init__(self, request_id: str, metrics: Metrics) -> None:
        self.request_id = request_id
        self.headers: dict[str, str] = {}
        self._started = time.perf_counter()
        self._stages: dict[str, float] = {}
        self._metrics = metrics

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage for `Server-Timing` and the metrics."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started)

    def add(self, name: str, seconds: float) -> None:
        """Record `seconds` of a stage that was timed elsewhere."""
        self._stages[name] = self._stages.get(name, 0.0) + seconds
        self._metrics.stage_duration.labels(name).observe(seconds)

    @property
    def elapsed(self) -> float:
        """Seconds since the request arrived."""
        return time.perf_counter() - self._started

    @property
    def server_timing(self) -> str:
        return ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in self._stages.items())


class CallMiddleware:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_body_bytes: int) -> None:
        self._app, self._metrics, self._max_body_bytes = app, metrics, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        offered = headers.get("x-request-id", "")
        call = Call(offered if _REQUEST_ID.fullmatch(offered) else uuid.uuid4().hex, self._metrics)
        scope.setdefault("state", {})["call"] = call
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                sent["X-Request-ID"] = call.request_id
                if timing := call.server_timing:
                    sent["Server-Timing"] = timing
                for name, value in call.headers.items():
                    sent[name] = value
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._answer(scope, self._limited(headers, receive), send_with_headers, call)
            except ClientDisconnect:  # nobody is left to answer; 499 as nginx logs it
                status = 499
                self._metrics.cancelled.labels("body").inc()
            finally:
                # The matched route's template, so that the label has few values; anything unmatched is one value.
                endpoint = getattr(scope.get("route"), "path", "other")
                self._metrics.requests.labels(endpoint, str(status)).inc()
                self._metrics.request_duration.labels(endpoint).observe(call.elapsed)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        started = False

        async def send_once(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_once)
        except ClientDisconnect:
            raise
        except Exception as exc:
            problem = problems.translate(exc)
            if problem.status == 500:
                log.exception("request %s failed", call.request_id)
            if started:  # too late for another status; the server closes the connection
                raise
            await problems.response(problem, call.request_id)(scope, receive, send)

    def _limited(self, headers: Headers, receive: Receive) -> Receive:
        """`receive` that raises a 413 Problem once the body exceeds the limit, whatever its headers promised."""
        seen = 0
        promised = headers.get("content-length", "")

        async def limited() -> Message:
            nonlocal seen
            if promised.isascii() and promised.isdigit() and int(promised) > self._max_body_bytes:
                raise self._too_large(f"has {promised} bytes")
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_body_bytes:
                raise self._too_large(f"has more than {self._max_body_bytes} bytes")
            return message

        return limited

    def _too_large(self, found: str) -> Problem:
        self._metrics.rejected.labels("body_too_large").inc()
        rule = f"at most {self._max_body_bytes} bytes are accepted"
        return Problem(413, f"the request body {found}; {rule}", [{"field": "body", "rule": rule}])
