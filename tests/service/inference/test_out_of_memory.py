"""Graphs that run out of memory: batches are halved, and who cannot be served is told to come back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.bundle.manifest import Manifest
from service.errors import RuntimeUnavailableError
from service.inference import onnx, out_of_memory
from service.inference.onnx import Arrays
from service.inference.out_of_memory import OutOfMemory, OutOfMemoryFallback, run_halving
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.fake_runtime import FakeRuntime
from tests.service import fakes

ROOT = Path(__file__).parents[3]


class Scarce:
    """Doubles its input, as long as there are at most `room` rows of it."""

    def __init__(self, room: int) -> None:
        self.room, self.sizes = room, []

    def __call__(self, inputs: Arrays) -> Arrays:
        size = len(inputs["x"])
        self.sizes.append(size)
        if size > self.room:
            raise OutOfMemory(f"{size} rows")
        return {"y": 2 * inputs["x"]}


def rows(count: int) -> Arrays:
    return {"x": np.arange(2.0 * count).reshape(count, 2)}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("room", [1, 3, 4, 100])
def test_the_outputs_are_those_of_the_whole_batch_in_its_order(size: int, room: int):
    outputs = run_halving(Scarce(room), rows(size))
    assert np.array_equal(outputs["y"], 2 * rows(size)["x"])


def test_only_sizes_of_batches_are_tried():
    run, halved = Scarce(8), []
    run_halving(run, rows(48), halved.append)
    assert run.sizes == [48, 32, 16, 8, 8, 16, 8, 8, 16, 8, 8]
    assert halved == [48, 32, 16, 16, 16]


def test_one_row_that_does_not_fit_is_the_end():
    with pytest.raises(OutOfMemory):
        run_halving(Scarce(0), rows(4))


def test_other_errors_are_not_tried_again():
    def broken(inputs: Arrays) -> Arrays:
        raise ValueError("rank mismatch")

    with pytest.raises(ValueError, match="rank"):
        run_halving(broken, rows(4), lambda size: pytest.fail("halved"))


def test_a_graph_is_short_from_one_image_that_failed_until_something_runs():
    registry = CollectorRegistry()
    scarce = Scarce(0)
    graph = OutOfMemoryFallback("decoder", scarce, Metrics(registry))
    with pytest.raises(OutOfMemory):
        graph(rows(1))
    assert graph.short
    scarce.room = 1
    graph(rows(2))
    assert not graph.short
    # The one image is for the batcher to count.
    assert registry.get_sample_value("facet_inference_errors_total", {"kind": "OutOfMemory"}) == 1


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. bfc_arena.cc:360 "
            "Failed to allocate memory for requested buffer of size 41943040",
            True,
        ),
        ("CUDA failure 2: out of memory ; GPU=0", True),
        ("CUDNN failure 4000: CUDNN_STATUS_ALLOC_FAILED", True),
        ("std::bad_alloc", True),
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: image", False),
    ],
)
def test_exhaustion_is_told_from_other_failures(message: str, expected: bool):
    assert out_of_memory.is_exhaustion(RuntimeError(message)) is expected


def test_only_exhaustion_is_translated():
    with pytest.raises(OutOfMemory, match="bad_alloc"), out_of_memory.translated():
        raise RuntimeError("std::bad_alloc")
    with pytest.raises(RuntimeError, match="rank"), out_of_memory.translated():
        raise RuntimeError("rank mismatch")


def test_a_memory_error_is_exhaustion():
    assert out_of_memory.is_exhaustion(MemoryError())


_LIMITED = """
import resource
import sys
from pathlib import Path
import numpy as np
import psutil
from service.bundle import loader
from service.inference import onnx, out_of_memory
from service.settings import Settings

shipped = loader.load(Path("bundles/celeba64"))
graphs = onnx.OnnxRuntime(shipped, Settings(device="cpu"))
def inputs(count):
    return {"latent": np.zeros((count, shipped.manifest.latent_size), np.float32),
            "attributes": np.zeros((count, len(shipped.manifest.attributes)), np.float32)}
graphs.decoder(inputs(1))
limit = psutil.Process().memory_info().vms + 200_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
halved = []
try:
    graphs.decoder(inputs(1024))
except out_of_memory.OutOfMemory:
    print("out of memory")
def corners(inputs):  # whole pictures would not fit beside the graph
    return {"image": graphs.decoder(inputs)["image"][:, 0, 0].copy()}
print(len(out_of_memory.run_halving(corners, inputs(1024), halved.append)["image"]), halved[0])
"""


@pytest.mark.slow
def test_onnxruntime_out_of_memory_is_recognised_and_survived():
    """With a real graph and a real limit on memory, in a process of its own."""
    pytest.importorskip("onnxruntime")
    command = [sys.executable, "-c", _LIMITED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["out of memory", "1024 1024"], done.stderr


class ScarceRuntime(FakeRuntime):
    """Decodes at most `room` images at once."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self.room = 100

    def decoder(self, inputs: Arrays) -> Arrays:
        if len(inputs["latent"]) > self.room:
            raise OutOfMemory("Failed to allocate memory")
        return super().decoder(inputs)


def test_a_batch_too_large_for_memory_is_answered_all_the_same(settings: Settings):
    with fakes.serving(settings, ScarceRuntime) as client:
        expected = client.post("/v1/generate", json={"seed": 1, "count": 4}).content
        fakes.model_of(client).runtime.room = 1
        response = client.post("/v1/generate", json={"seed": 1, "count": 4})
        assert response.status_code == 200
        assert response.content == expected
        assert fakes.sample(client, "facet_inference_errors_total", kind="OutOfMemory") >= 3
        assert client.get("/readyz").status_code == 200


def test_without_memory_for_one_image_the_service_is_not_ready_until_there_is(settings: Settings):
    with fakes.serving(settings, ScarceRuntime) as client:
        fakes.model_of(client).runtime.room = 0
        response = client.post("/v1/generate", json={"seed": 1, "count": 2})
        assert "memory" in fakes.problem(response, 503)["detail"]
        assert response.headers["retry-after"]
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200  # a restart would not help
        assert fakes.sample(client, "facet_model_ready", model="tiny") == 0
        assert (
            client.post("/v1/encode", content=fakes.grey(9), headers={"Content-Type": "image/png"}).status_code == 200
        )
        fakes.model_of(client).runtime.room = 100
        assert client.get("/readyz").status_code == 200  # by a batch of its own: nobody sends work to what is not ready
        assert client.post("/v1/generate", json={"seed": 1}).status_code == 200
        assert fakes.sample(client, "facet_model_ready", model="tiny") == 1


def test_too_little_memory_at_the_start_names_the_setting(manifest: Manifest):
    scarce = ScarceRuntime(manifest)
    scarce.room = 2
    with pytest.raises(RuntimeUnavailableError, match=r"decoder\.onnx.*4 images.*FACET_MAX_BATCH"):
        onnx.warm(scarce, manifest, [1, 2, 4])
