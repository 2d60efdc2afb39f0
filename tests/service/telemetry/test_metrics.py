"""Metrics live on the registry they are given, are named as documented, and count batches."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from service.telemetry.metrics import Metrics
from tests.service import fakes

PAGE = Path(__file__).parents[3] / "docs" / "observability.md"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> Metrics:
    return Metrics(registry)


def exposed_name(family: Metric) -> str:
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


NAMES = [exposed_name(family) for family in Metrics(CollectorRegistry()).registry.collect()]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("facet_requests_total", ("endpoint", "code")),
        ("facet_requests_rejected_total", ("reason",)),
        ("facet_images_total", ("operation",)),
        ("facet_batches_total", ("graph",)),
        ("facet_batch_padding_images_total", ("graph",)),
        ("facet_inference_errors_total", ("kind",)),
        ("facet_request_duration_seconds", ("endpoint",)),
        ("facet_stage_duration_seconds", ("stage",)),
        ("facet_queue_wait_seconds", ("graph",)),
        ("facet_batch_images", ("graph",)),
        ("facet_batch_duration_seconds", ("graph",)),
        ("facet_requests_in_flight", ()),
        ("facet_queue_images", ("graph",)),
        ("facet_queue_capacity_images", ("graph",)),
        ("facet_model_ready", ("model",)),
        ("facet_build_info", ()),
        ("facet_model_info", ("model",)),
    ],
)
def test_each_metric_has_its_name_and_labels(metrics: Metrics, name: str, labels: tuple[str, ...]):
    (collector,) = {c for c in vars(metrics).values() if hasattr(c, "describe") and described(c) == name}
    assert collector._labelnames == labels


def described(collector) -> str:
    (family,) = collector.describe()
    return exposed_name(family)


@pytest.mark.parametrize("name", NAMES)
def test_names_have_the_prefix_and_base_units(name: str):
    assert name.startswith("facet_")
    assert not name.endswith(("_ms", "_milliseconds", "_mb"))


def test_every_metric_explains_itself(registry: CollectorRegistry, metrics: Metrics):
    for family in registry.collect():
        assert family.documentation


def test_two_services_can_live_in_one_process(registry: CollectorRegistry, metrics: Metrics):
    other = Metrics(CollectorRegistry())
    metrics.images.labels("edit").inc()
    assert registry.get_sample_value("facet_images_total", {"operation": "edit"}) == 1
    assert other.registry.get_sample_value("facet_images_total", {"operation": "edit"}) is None


def test_one_registry_takes_one_service_only(registry: CollectorRegistry, metrics: Metrics):
    with pytest.raises(ValueError, match="Duplicated"):
        Metrics(registry)


def test_a_batch_counts_its_images_its_padding_and_its_time(registry: CollectorRegistry, metrics: Metrics):
    metrics.observe_batch("decoder", size=3, bucket=4, seconds=0.5)
    metrics.observe_batch("decoder", size=4, bucket=4, seconds=0.25)
    found = {
        name: registry.get_sample_value(f"facet_{name}", {"graph": "decoder"})
        for name in (
            "batches_total",
            "batch_padding_images_total",
            "batch_images_sum",
            "batch_images_count",
            "batch_duration_seconds_sum",
        )
    }
    assert found == {
        "batches_total": 2,
        "batch_padding_images_total": 1,
        "batch_images_sum": 7,
        "batch_images_count": 2,
        "batch_duration_seconds_sum": 0.75,
    }


def test_the_build_is_described(registry: CollectorRegistry, metrics: Metrics):
    metrics.describe_build("7.8.9")
    (family,) = [family for family in registry.collect() if family.name == "facet_build"]
    assert family.samples[0].labels["version"] == "7.8.9"


def test_counters_bring_no_second_series_with_their_start(registry: CollectorRegistry, metrics: Metrics):
    metrics.images.labels("edit").inc()
    assert not [s.name for family in registry.collect() for s in family.samples if s.name.endswith("_created")]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("requests_rejected_total", {"reason": "queue_full"}),
        ("requests_rejected_total", {"reason": "codecs_full"}),
        ("requests_rejected_total", {"reason": "body_too_large"}),
        ("requests_rejected_total", {"reason": "bodies_full"}),
        ("requests_rejected_total", {"reason": "rate_limited"}),
        ("requests_rejected_total", {"reason": "images_in_flight"}),
        ("requests_rejected_total", {"reason": "unauthorized"}),
        ("requests_rejected_total", {"reason": "forbidden"}),
        ("key_reloads_total", {"result": "failed"}),
        ("model_reloads_total", {"result": "failed"}),
    ],
)
def test_what_alerts_wait_for_is_there_before_it_happens(
    registry: CollectorRegistry, metrics: Metrics, name: str, labels: dict[str, str]
):
    assert registry.get_sample_value(f"facet_{name}", labels) == 0


def test_the_page_of_metrics_has_a_row_for_each():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    missing = [name for name in NAMES if not any(f"`{name}`" in row or f"`{name}{{" in row for row in rows)]
    assert missing == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed")
def test_prometheus_own_linter_has_nothing_to_say(client: fakes.TestClient):
    form = {"attributes": '{"Smiling": 1}'}
    assert client.post("/v1/edit", files={"image": fakes.grey(40)}, data=form).status_code == 200
    assert client.post("/v1/edit", content=b"no picture").status_code == 422
    exposed = client.get("/metrics").text
    checked = subprocess.run(["promtool", "check", "metrics"], input=exposed, capture_output=True, text=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
