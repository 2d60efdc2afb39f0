"""OpenTelemetry traces, if an endpoint is configured: one span per request, and one for each of its stages.

OpenTelemetry is imported only when a `Tracing` is created.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from service.settings import Settings
from service.system import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger(__name__)

# These apply to all programs of a host, so without the package they give a warning, not an error.
_STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_MISSING = "OpenTelemetry is not installed: install Facet with the extra `otel` too (pip install '.[cpu,otel]')"
# Names of spans that differ from the name of their stage.
_SPANS = {"infer": "session"}


class TracingUnavailableError(RuntimeError):
    """FACET_TRACES_ENDPOINT is set and OpenTelemetry is not installed; the message names the extra."""


class Tracing:
    """Creates the traces of requests. It owns `provider`, of the OpenTelemetry SDK."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.api, self._provider = trace, provider
        self.tracer = provider.get_tracer("facet", VERSION)
        self.extract = TraceContextTextMapPropagator().extract

    def begin(self, method: str, headers: Mapping[str, str]) -> Trace:
        """The trace of a request that has just arrived. A header `traceparent` makes it part of the caller's trace."""
        return Trace(self, method, headers)

    def close(self) -> None:
        """Export the remaining spans. Takes seconds if the endpoint does not respond."""
        self._provider.shutdown()


class Trace:
    """One request's spans. Times are those of `time.perf_counter`, in seconds."""

    def __init__(self, tracing: Tracing, method: str, headers: Mapping[str, str]) -> None:
        api = self._api = tracing.api
        self._tracer, self._method = tracing.tracer, method
        # The wall clock is read once per trace, so that adjusting it cannot reorder spans.
        self._epoch = time.time_ns() - time.perf_counter_ns()
        self._span = self._tracer.start_span(
            method, tracing.extract(headers), api.SpanKind.SERVER, {"http.request.method": method}
        )
        self._context = api.set_span_in_context(self._span)
        self.trace_id = api.format_trace_id(self._span.get_span_context().trace_id)

    def stage(
        self, name: str, started: float, ended: float, attributes: Mapping[str, Any], exc: BaseException | None = None
    ) -> None:
        """Add the span of a finished stage, with status error if `exc` ended it. May be called from any thread."""
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
        """End the request's span; `path` is the template of its route."""
        self._span.update_name(f"{self._method} {path}")
        self._span.set_attributes({"http.route": path, "http.response.status_code": status})
        self._span.set_attributes({f"facet.{key}": value for key, value in facts.items()})
        if status >= 500:
            self._fail(self._span, str(status))
        self._span.end()

    def _fail(self, span: Any, kind: str) -> None:
        # Not the exception's message, which may quote the client's data.
        span.set_attribute("error.type", kind)
        span.set_status(self._api.StatusCode.ERROR)

    def _nanoseconds(self, seconds: float) -> int:
        return self._epoch + int(seconds * 1e9)


def configured(settings: Settings, environment: Mapping[str, str] = os.environ) -> Tracing | None:
    """Tracing over OTLP/HTTP, by FACET_TRACES_ENDPOINT or OpenTelemetry's own variables; None if none is set.

    Raises TracingUnavailableError if the former is set and the extra `otel` is not installed.
    """
    if not (settings.traces_endpoint or _is_enabled(environment)):
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


def _is_enabled(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in _STANDARD)
