"""A trace has a span for the request and for each stage, joins the caller's, and costs nothing where it is off."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.settings import Settings
from service.telemetry import tracing
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing
from tests.fake_runtime import FakeRuntime
from tests.service import fakes
from tests.service.fakes import TestClient
from tests.service.server.asgi import Conversation, Waiting, play, surrounded
from tests.service.telemetry.test_logs import Log, log  # noqa: F401 - a fixture

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra otel is not installed")
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from opentelemetry.trace import SpanKind, StatusCode  # noqa: E402

ROOT = Path(__file__).parents[3]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*tracing._STANDARD, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_SERVICE_NAME"):
        monkeypatch.delenv(name, raising=False)


class Traces:
    """A provider that keeps the spans of requests that are over."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = sdk.TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(provider)

    @property
    def root(self):
        (span,) = [span for span in self._exporter.get_finished_spans() if span.kind == SpanKind.SERVER]
        return span

    @property
    def children(self) -> list:
        """By the time they began."""
        found = [span for span in self._exporter.get_finished_spans() if span.kind != SpanKind.SERVER]
        return sorted(found, key=lambda span: span.start_time)

    def child(self, name: str):
        (span,) = [span for span in self.children if span.name == name]
        return span

    @property
    def empty(self) -> bool:
        return not self._exporter.get_finished_spans()


@pytest.fixture
def traces() -> Traces:
    return Traces()


def serving(settings: Settings, traces: Traces, runtime=FakeRuntime) -> TestClient:
    app = create_app(settings, lambda bundle, _: runtime(bundle.manifest), CollectorRegistry(), traces.tracing)
    return TestClient(app)


@pytest.fixture
def client(settings: Settings, traces: Traces) -> Iterator[TestClient]:
    with serving(settings, traces) as client:
        yield client


def edit(client: TestClient, **headers: str):
    form = {"attributes": '{"Smiling": 1}'}
    answer = client.post("/v1/edit", files={"image": fakes.grey(40)}, data=form, headers=headers)
    assert answer.status_code == 200
    return answer


def test_an_edit_has_a_span_for_each_stage(client: TestClient, traces: Traces):
    edit(client)
    names = [span.name for span in traces.children]
    assert names == ["decode", "align", "queue", "session", "queue", "session", "decode", "paste", "encode"]
    for span in traces.children:
        assert span.parent.span_id == traces.root.context.span_id
        assert span.context.trace_id == traces.root.context.trace_id
        assert traces.root.start_time <= span.start_time <= span.end_time <= traces.root.end_time
        assert span.status.status_code != StatusCode.ERROR


def test_the_request_is_described(client: TestClient, traces: Traces):
    answer = edit(client)
    assert traces.root.name == "POST /v1/edit"
    assert dict(traces.root.attributes) == {
        "http.request.method": "POST",
        "http.route": "/v1/edit",
        "http.response.status_code": 200,
        "facet.model": "tiny@1.2.3",
        "facet.images": 1,
        "facet.request_id": answer.headers["x-request-id"],
    }


def test_the_callers_trace_goes_on(client: TestClient, traces: Traces):
    edit(client, **TRACEPARENT)
    assert f"{traces.root.context.trace_id:032x}" == TRACE
    assert f"{traces.root.parent.span_id:016x}" == PARENT


@pytest.mark.parametrize("header", ["", "00-0-0-01", "swordfish", f"00-{'0' * 32}-{PARENT}-01"])
def test_a_senseless_parent_begins_a_new_trace(client: TestClient, traces: Traces, header: str):
    edit(client, traceparent=header)
    assert traces.root.parent is None


def test_a_caller_that_does_not_sample_is_followed(client: TestClient, traces: Traces):
    edit(client, traceparent=f"00-{TRACE}-{PARENT}-00")
    assert traces.empty


def test_the_queue_tells_which_batch_carried_it(client: TestClient, traces: Traces):
    client.post("/v1/generate", json={"attributes": {}, "count": 3})
    assert dict(traces.child("queue").attributes) == {
        "facet.graph": "decoder",
        "facet.batch.id": 1,
        "facet.batch.size": 3,
    }


def test_a_request_that_took_several_batches_tells_them_all(client: TestClient, traces: Traces):
    client.post("/v1/generate", json={"attributes": {}, "count": 6})  # batches hold at most 4
    assert traces.child("session").attributes["facet.batch.ids"] == (1, 2)
    assert traces.child("queue").attributes["facet.batch.size"] == 4


def test_requests_of_one_batch_tell_the_same_number(settings: Settings):
    held: list[fakes.HeldRuntime] = []
    traces = Traces()
    with serving(settings, traces, lambda m: held.append(fakes.HeldRuntime(m)) or held[0]) as client:
        held[0].hold()
        threads = [
            threading.Thread(target=client.post, args=("/v1/generate",), kwargs={"json": {"attributes": {}}})
            for _ in range(3)
        ]
        threads[0].start()
        assert held[0].entered.wait(fakes.PATIENCE)
        for thread in threads[1:]:
            thread.start()
        while fakes.sample(client, "facet_queue_images", graph="decoder") < 2:
            pass
        held[0].release()
        for thread in threads:
            thread.join()
    queues = [span.attributes for span in traces.children if span.name == "queue"]
    assert [(a["facet.batch.id"], a["facet.batch.size"]) for a in queues] == [(1, 1), (2, 2), (2, 2)]


def test_a_failure_marks_its_span_and_the_request_and_quotes_nothing(settings: Settings, traces: Traces):
    runtimes: list[fakes.FailingRuntime] = []
    with serving(settings, traces, lambda m: runtimes.append(fakes.FailingRuntime(m)) or runtimes[0]) as client:
        runtimes[0].error = RuntimeError("swordfish")
        client.post("/v1/generate", json={"attributes": {}})
    for span, kind in ((traces.child("session"), "InferenceError"), (traces.root, "500")):
        assert span.status.status_code == StatusCode.ERROR
        assert span.attributes["error.type"] == kind
        assert "swordfish" not in span.to_json()


def test_a_refusal_is_no_failure_of_the_service(client: TestClient, traces: Traces):
    fakes.problem(client.post("/v1/generate", json={"attributes": {"swordfish": 1}}), 422)
    assert traces.root.attributes["http.response.status_code"] == 422
    assert traces.root.status.status_code != StatusCode.ERROR
    assert "swordfish" not in traces.root.to_json()


def test_a_request_that_finds_the_queue_full_is_traced(client: TestClient, traces: Traces, monkeypatch):
    monkeypatch.setattr(fakes.model_of(client).decoder, "refusal", lambda: 1.0)
    client.post("/v1/generate", json={"attributes": {}})
    assert traces.root.name == "POST /v1/generate"
    assert traces.root.attributes["http.response.status_code"] == 429


def test_a_client_that_leaves_is_seen_in_the_stage_it_was_in(traces: Traces):
    async def story() -> None:
        app = Waiting("align")
        middleware = surrounded(app, Metrics(CollectorRegistry()))
        middleware._tracing = traces.tracing
        conversation = Conversation(middleware)
        conversation.leave()
        await conversation.run()

    play(story())
    assert traces.child("align").attributes["error.type"] == "CancelledError"
    assert traces.root.attributes["http.response.status_code"] == 499
    assert traces.root.attributes["facet.ended_in"] == "align"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_are_not_traced(client: TestClient, traces: Traces, path: str):
    client.get(path)
    assert traces.empty


def test_paths_that_match_nothing_have_one_name(client: TestClient, traces: Traces):
    client.get("/swordfish")
    assert traces.root.name == "GET other"


def test_the_log_names_the_trace(client: TestClient, log: Log):  # noqa: F811
    edit(client, **TRACEPARENT)
    assert log.access[0]["trace_id"] == TRACE


def test_without_an_endpoint_there_are_no_traces():
    assert tracing.configured(Settings(), {}) is None


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_the_standard_variables_may_switch_it_off(off: dict[str, str]):
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    assert not tracing._is_enabled(environment | off)
    assert tracing._is_enabled(environment)


_OTHERS = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
trace.set_tracer_provider(provider)
from service.app import create_app
from tests.service.fakes import TestClient
TestClient(create_app()).get("/v1/models?attributes=swordfish")
"""


@pytest.mark.slow
def test_the_frameworks_own_traces_which_tell_queries_stay_off():
    done = subprocess.run([sys.executable, "-c", _OTHERS], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if OpenTelemetry were not installed."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "opentelemetry":
            monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("without_packages")
def test_where_it_is_requested_and_not_installed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FACET_TRACES_ENDPOINT", "http://127.0.0.1:4318/v1/traces")
    with pytest.raises(tracing.TracingUnavailableError, match="extra `otel`"):
        tracing.configured(Settings())


@pytest.mark.usefixtures("without_packages")
def test_what_is_asked_of_every_program_of_a_host_is_only_a_warning(monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    assert tracing.configured(Settings()) is None
    (warning,) = caplog.records
    assert warning.levelname == "WARNING"
    assert "extra `otel`" in warning.getMessage()


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A server that keeps what is posted to it, and its address."""
    posted: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()  # it looks that often for its end
        yield f"http://127.0.0.1:{server.server_address[1]}", posted
        server.shutdown()


@pytest.mark.parametrize("own", [True, False])
def test_traces_reach_a_collector_before_the_service_ends(settings: Settings, collector, monkeypatch, own: bool):
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    address, posted = collector
    if own:
        settings = settings.model_copy(update={"traces_endpoint": f"{address}/v1/traces"})
    else:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "faces")
    with fakes.serving(settings) as client:
        client.post("/v1/generate", json={"attributes": {}})
    ((path, sent),) = posted
    assert path == "/v1/traces"
    assert b"POST /v1/generate" in sent
    assert (b"facet" if own else b"faces") in sent
