"""The proof for GPUs, tried on the CPU: it refuses without a GPU, and finds a way that computes something else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cuda
from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import GRAPHS
from service.inference.io_binding import BoundSession
from service.inference.onnx import OnnxRuntime
from service.settings import Settings

onnxruntime = pytest.importorskip("onnxruntime")
BUNDLE = Path(__file__).parents[2] / "bundles" / "celeba64"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return loader.load(BUNDLE)


@pytest.fixture(scope="module")
def reference(bundle: Bundle) -> dict[str, cuda.Run]:
    return dict(OnnxRuntime(bundle, Settings(device="cpu")).graphs)


@pytest.fixture(scope="module")
def tried(bundle: Bundle) -> cuda.Ways:
    """As on a GPU, and one that answers every batch as it answered the first."""
    sessions = {name: onnxruntime.InferenceSession(str(bundle.path(name))) for name in GRAPHS}
    found = {
        way: {name: BoundSession(onnxruntime, session, [1, 2], captured=way == "captured") for name, session in pairs}
        for way, pairs in {way: sessions.items() for way in ("buffers", "captured")}.items()
    }
    stuck = {name: stale(graph) for name, graph in found["buffers"].items()}
    return found | {"stuck": stuck}


def stale(graph: BoundSession) -> cuda.Run:
    answers: dict[int, dict[str, np.ndarray]] = {}
    return lambda inputs: answers.setdefault(len(inputs["attributes"]), graph(inputs))


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there may be a GPU, which is measured"
)
def test_without_cuda_it_says_so_and_writes_nothing(tmp_path: Path, capsys):
    assert cuda.main(["--bundle", str(BUNDLE), "--out", str(tmp_path / "results")]) == 2
    assert "nothing was measured: FACET_DEVICE=cuda: this onnxruntime has no CUDA" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_computes_the_same_passes_and_a_stale_replay_does_not(bundle, reference, tried):
    allowed = cuda.tolerances(tried, bundle, None)
    record = cuda.measure(bundle, reference, tried, allowed, [1, 2], rounds=1, calls=1)
    assert set(record["differences"]["buffers"]) == {"mean", "log_variance", "attribute_estimates", "image"}
    assert max(record["differences"]["buffers"].values()) <= 1
    assert record["differences"]["captured"] == record["differences"]["buffers"]
    assert len(record["too_far"]) == 4
    assert all(line.startswith("stuck: ") for line in record["too_far"])
    assert all(
        taken > 0 for graphs in record["milliseconds"].values() for ways in graphs.values() for taken in ways.values()
    )
    text = cuda.report(json.loads(json.dumps({"device": "no GPU", "conditions": "in a test"} | record)))
    assert text.count("| decoder.onnx |") == 2
    assert "stuck: image is off by" in text


def test_what_is_no_number_is_too_far(bundle, reference):
    broken = {
        name: lambda inputs, run=run: {k: v * np.float32(np.nan) for k, v in run(inputs).items()}
        for name, run in reference.items()
    }
    found = cuda.differences(reference, {"broken": broken}, cuda.batches(bundle, reference, 1))
    assert set(found["broken"].values()) == {float("inf")}


def test_half_precision_is_held_to_its_own_bundles_tolerance(bundle):
    parity = {
        name: each.model_copy(update={"tolerance": dict.fromkeys(each.tolerance, 3.0)})
        for name, each in bundle.manifest.parity.items()
    }
    half = Bundle(bundle.directory, bundle.manifest.model_copy(update={"parity": parity}))
    limits = cuda.tolerances({"plain": {}, "half, plain": {}}, bundle, half)
    assert limits["plain"]["mean"] == bundle.manifest.parity["encoder.onnx"].tolerance["mean"]
    assert set(limits["half, plain"].values()) == {3.0}
