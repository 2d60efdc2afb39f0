"""What the service exposes, and promtool to ask whether an expression is one."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.fake_runtime import FakeRuntime
from tests.service import fakes

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
TARGET_LABELS = {"job", "instance"}  # Prometheus adds them

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed"
)


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True)
class Exposed:
    """Names of time series with their labels, and the values that some of the labels may have."""

    labels: dict[str, set[str]]
    values: dict[str, set[str]]


@pytest.fixture(scope="session")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Exposed:
    """What a running service exposes after it has worked."""
    directory = tmp_path_factory.mktemp("bundles")
    fakes.write_bundle(directory / "tiny")
    settings = Settings(bundles=directory, weights=directory, default_model="tiny", codec_threads=2)
    app = create_app(settings, lambda bundle, _: FakeRuntime(bundle.manifest), CollectorRegistry())
    with fakes.TestClient(app) as client:
        assert client.post("/v1/generate", json={"attributes": {}}).status_code == 200
        metrics = app.state.service.metrics
        values: dict[str, set[str]] = {"endpoint": set(app.openapi()["paths"])}
        for sample in (sample for family in metrics.registry.collect() for sample in family.samples):
            for label in ("le", "reason", "result", "graph"):
                values.setdefault(label, set()).update({sample.labels.get(label, "")} - {""})
        return Exposed(_labels(metrics), values)


def _labels(metrics: Metrics) -> dict[str, set[str]]:
    """Also of series that have not begun, which only the metric itself can tell."""
    endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
    found = {}
    for collector in (each for each in vars(metrics).values() if hasattr(each, "_labelnames")):
        (family,) = collector.describe()
        labels = set(collector._labelnames)
        if family.type == "info":
            labels |= {label for family in collector.collect() for sample in family.samples for label in sample.labels}
        for ending in endings.get(family.type, [""]):
            found[family.name + ending] = labels | ({"le"} if ending == "_bucket" else set()) | TARGET_LABELS
    return found
