"""OpenTelemetry traces, where an endpoint is set: a span for each request, and one for each of its stages.

Nothing of OpenTelemetry is imported before a `Tracing` is made.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.settings import Settings
from service.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

# What the standard variables ask for is asked of every program of a host, so it is no mistake to do without.
_STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_MISSING = "OpenTelemetry is not installed: install Facet with the extra `otel` too (pip install '.[cpu,otel]')"
# What a trace calls a stage, where the name differs.
_SPANS = {"infer": "session"}


class TracingUnavailableError(RuntimeError):
    """FACET_TRACES_ENDPOINT is set and nothing is there to send traces; the message says what to install."""


class Tracing:
    """Makes the traces of requests, for a provider of the OpenTelemetry SDK, which it owns."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.api, self._provider = trace, provider
        self.tracer = provider.get_tracer("facet", VERSION)
        self.extract = TraceContextTextMapPropagator().extract

    def begin(self, method: str, headers: Mapping[str, str]) -> Trace:
        """The trace of a request that has just arrived; `traceparent` among its headers makes it part of another."""
        return Trace(self, method, headers)

    def close(self) -> None:
        """Send what is left; takes seconds where nobody listens."""
        self._provider.shutdown()


class Trace:
    """One request's spans. Times are those of `time.perf_counter`, in seconds."""

    def __init__(self, tracing: Tracing, method: str, headers: Mapping[str, str]) -> None:
        api = self._api = tracing.api
        self._tracer, self._method = tracing.tracer, method
        # One reading of the clock for all spans, so that a clock that is set meanwhile cannot disorder them.
        self._epoch = time.time_ns() - time.perf_counter_ns()
        self._span = self._tracer.start_span(
            method, tracing.extract(headers), api.SpanKind.SERVER, {"http.request.method": method}
        )
        self._context = api.set_span_in_context(self._span)
        self.trace_id = api.format_trace_id(self._span.get_span_context().trace_id)

    def stage(
        self, name: str, started: float, ended: float, attributes: Mapping[str, Any], exc: BaseException | None = None
    ) -> None:
        """Add the span of a stage that is over, failed if `exc` ended it. May be called from any thread."""
        span = self._tracer.start_span(
            _SPANS.get(name, name),
            self._context,
            attributes={f"facet.{key}": value for key, value in attributes.items()},
            start_time=self._nanoseconds(started),
        )
        if exc is not None:
            self._fail(span, type(exc).__qualname__)
        span.end(self._nanoseconds(ended))

    def end(self, path: str, status: int, facts: Mapping[str, Any]) -> None:
        """The request is over; `path` is its route's template."""
        self._span.update_name(f"{self._method} {path}")
        self._span.set_attributes({"http.route": path, "http.response.status_code": status})
        self._span.set_attributes({f"facet.{key}": value for key, value in facts.items()})
        if status >= 500:
            self._fail(self._span, str(status))
        self._span.end()

    def _fail(self, span: Any, kind: str) -> None:
        # Never an exception's text, which may quote what the client sent.
        span.set_attribute("error.type", kind)
        span.set_status(self._api.StatusCode.ERROR)

    def _nanoseconds(self, seconds: float) -> int:
        return self._epoch + int(seconds * 1e9)


def configured(settings: Settings, environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Traces over OTLP/HTTP as FACET_TRACES_ENDPOINT or OpenTelemetry's own variables ask, None where none does.

    Raises TracingUnavailableError where the first is set and the extra `otel` is not installed.
    """
    if not (settings.traces_endpoint or _wanted(environment)):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as exc:
        if settings.traces_endpoint:
            raise TracingUnavailableError(_MISSING) from exc
        log.warning("no traces: %s", _MISSING)
        return None
    ours = Resource.create().merge(Resource({"service.name": "facet", "service.version": VERSION}))
    provider = TracerProvider(resource=ours.merge(OTELResourceDetector().detect()))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=settings.traces_endpoint or None)))
    return Tracing(provider)


def _wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in _STANDARD)
