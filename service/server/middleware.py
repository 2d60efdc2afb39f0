"""The outer middleware: gives each request its context, sends what the context collects, and reports the end."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api import security_headers
from service.request import RequestContext, identifier
from service.telemetry import logs
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing

MODEL_HEADER = "X-Facet-Model"
SEED_HEADER = "X-Facet-Seed"
IGNORED_HEADER = "X-Facet-Ignored-Attributes"
WARNING_HEADER = "X-Facet-Warning"


class RequestMiddleware:
    """Puts a RequestContext into `scope["state"]["context"]` of each request.

    Responses, errors too, get the id, the timings and the facts of the request, and the security headers that they
    lack. `timeout` is in seconds. `tracing`, if given, traces each request but probes.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, timeout: float, tracing: Tracing | None = None) -> None:
        self._app, self._metrics, self._timeout, self._tracing = app, metrics, timeout, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        tracing = self._tracing if scope["path"] not in logs.QUIET else None
        trace = tracing.begin(scope["method"], headers) if tracing else None
        context = RequestContext(identifier(headers.get("x-request-id")), self._metrics, self._timeout, trace)
        scope.setdefault("state", {})["context"] = context

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.response_started(message["status"])
                message["headers"] = [*message["headers"]]
                _complete(message["headers"], context)
            elif not message.get("more_body", False):
                context.response_complete()
            await send(message)

        token = logs.request.set(context.identity)
        try:
            with context.resources:
                try:
                    await self._app(scope, receive, send_with_headers)
                finally:
                    if route := scope.get("route"):
                        context.endpoint = route.path  # the template, so that the label has few values
                    context.end(scope["method"])
        finally:
            logs.request.reset(token)


def _complete(headers: list[tuple[bytes, bytes]], context: RequestContext) -> None:
    """Add what the context has collected, in place."""
    security_headers.complete(headers)
    headers.append((b"x-request-id", context.request_id.encode()))
    facts = {
        "Server-Timing": context.server_timing,
        MODEL_HEADER: context.model,
        SEED_HEADER: None if context.seed is None else str(context.seed),
        IGNORED_HEADER: ", ".join(context.ignored_attributes),
        WARNING_HEADER: context.warning,
    }
    headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in facts.items() if value]
