"""Probes and metrics over HTTP."""

from __future__ import annotations

from concurrent.futures.thread import BrokenThreadPool

import pytest

from service.settings import Settings
from tests.service.api.helpers import edit, facts, generate
from tests.service.fakes import FailingRuntime, TestClient, application, grey, model_of, problem, sample, serving


def test_a_healthy_service_says_so(client: TestClient):
    assert facts(client.get("/healthz")) == {"status": "ok"}
    assert facts(client.get("/readyz")) == {"status": "ok"}


def test_before_the_models_are_loaded_it_lives_and_is_not_ready(settings: Settings):
    client = TestClient(application(settings))
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    for response in (generate(client), edit(client, attributes={}), client.post("/v1/encode", content=grey(1))):
        assert problem(response, 503)["detail"]
        assert int(response.headers["retry-after"]) >= 1


def test_after_shutdown_it_is_not_ready(settings: Settings):
    with serving(settings) as client:
        assert client.get("/readyz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_a_refused_bundle_stops_the_start(settings: Settings):
    (settings.bundles / "tiny" / "encoder.onnx").write_bytes(b"not really an ENCODER")
    with pytest.raises(ValueError, match=r"encoder\.onnx"), serving(settings):
        pass


def test_when_a_worker_dies_health_and_readiness_go_red(settings: Settings):
    with serving(settings, FailingRuntime) as client:
        model_of(client).runtime.error = BrokenThreadPool("out of threads")
        problem(generate(client), 503)
        health = client.get("/healthz")
        assert health.status_code == 503
        assert "tiny@1.2.3" in health.json()["status"]
        assert client.get("/readyz").status_code == 503
        problem(generate(client), 503)


def test_a_model_whose_worker_died_is_not_ready_in_the_metrics(settings: Settings):
    with serving(settings, FailingRuntime) as client:
        assert sample(client, "facet_model_ready", model="tiny") == 1
        model_of(client).runtime.error = BrokenThreadPool("out of threads")
        generate(client)
        client.get("/healthz")
        assert sample(client, "facet_model_ready", model="tiny") == 0


def test_metrics_are_exposed_in_prometheus_text(client: TestClient):
    edit(client, attributes={})
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    for name in (
        "facet_requests_total",
        "facet_requests_rejected_total",
        "facet_images_total",
        "facet_batches_total",
        "facet_batch_padding_images_total",
        "facet_inference_errors_total",
        "facet_request_duration_seconds",
        "facet_stage_duration_seconds",
        "facet_queue_wait_seconds",
        "facet_batch_images",
        "facet_batch_duration_seconds",
        "facet_requests_in_flight",
        "facet_queue_images",
        "facet_queue_capacity_images",
        "facet_model_ready",
        "facet_build_info",
        "facet_model_info",
    ):
        assert f"# TYPE {name} " in response.text


def test_metrics_are_exposed_as_openmetrics_when_requested(client: TestClient):
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


def test_requests_are_counted_by_endpoint_and_code(client: TestClient):
    generate(client)
    generate(client, count=0)
    client.get("/v1/models/tiny")
    client.get("/v1/models/missing")
    for endpoint, code in [
        ("/v1/generate", "200"),
        ("/v1/generate", "422"),
        ("/v1/models/{name}", "200"),
        ("/v1/models/{name}", "404"),
    ]:
        assert sample(client, "facet_requests_total", endpoint=endpoint, code=code) == 1
    assert sample(client, "facet_request_duration_seconds_count", endpoint="/v1/generate") == 2
    assert sample(client, "facet_requests_in_flight") == 0


def test_paths_that_clients_invent_share_one_label(client: TestClient):
    for path in ("/a", "/b/c", "/v1/nothing", "/v2/generate", "/.env"):
        client.get(path)
    assert sample(client, "facet_requests_total", endpoint="other", code="404") == 5
    for family in client.app.state.service.metrics.registry.collect():
        for entry in family.samples:
            assert entry.labels.get("endpoint", "other") in {"other", *client.app.openapi()["paths"]}


def test_images_and_batches_are_counted(client: TestClient):
    generate(client, count=3)
    edit(client, attributes={})
    client.post("/v1/encode", content=grey(1))
    assert sample(client, "facet_images_total", operation="generate") == 3
    assert sample(client, "facet_images_total", operation="edit") == 1
    assert sample(client, "facet_images_total", operation="encode") == 1
    assert sample(client, "facet_batches_total", graph="encoder") == 2
    assert sample(client, "facet_batches_total", graph="decoder") == 2
    assert sample(client, "facet_batch_padding_images_total", graph="decoder") == 1
    assert sample(client, "facet_queue_images", graph="decoder") == 0
    assert sample(client, "facet_stage_duration_seconds_count", stage="align") == 2
