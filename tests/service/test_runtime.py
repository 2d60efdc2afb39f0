"""The runtime against graphs of one node each, and against an onnxruntime that misbehaves."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from service import runtime
from service.bundle import BundleError
from service.settings import Settings

ROOT = Path(__file__).parents[2]


class Node:
    def __init__(self, tensor, shape=None):
        self.name = tensor.name
        self.type = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[tensor.dtype]
        self.shape = shape or list(tensor.shape)


def fake_onnxruntime(manifest, offered, granted, fails=False):
    """A module like onnxruntime that offers some providers and grants others."""
    opened = []

    class Session:
        def __init__(self, path, options, providers):
            if fails:
                raise RuntimeError("protobuf parsing failed")
            self.entry = manifest.files[path.rsplit("/", 1)[-1]]
            self.options, self.asked = options, [p if isinstance(p, str) else p[0] for p in providers]
            self.provider_options = dict(p for p in providers if not isinstance(p, str))
            opened.append(self)

        def get_providers(self):
            return [p for p in self.asked if p in granted]

        def get_inputs(self):
            return [Node(t) for t in self.entry.inputs]

        def get_outputs(self):
            return [Node(t) for t in self.entry.outputs]

    module = types.SimpleNamespace(
        SessionOptions=types.SimpleNamespace,
        InferenceSession=Session,
        get_available_providers=lambda: offered,
        preload_dlls=lambda: None,
    )
    return module, opened


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def start(monkeypatch, bundle, manifest):
    def start(device, offered, granted, fails=False, **settings):
        module, opened = fake_onnxruntime(manifest, offered, granted, fails)
        monkeypatch.setattr(runtime, "require_onnxruntime", lambda: module)
        return runtime.OnnxRuntime(bundle, Settings(device=device, **settings)), opened

    return start


@pytest.fixture
def bundle(bundle_directory):
    from service import bundle

    return bundle.load(bundle_directory)


def test_cuda_is_used_where_the_session_really_has_it(start):
    started, opened = start("auto", [CUDA, CPU], {CUDA, CPU})
    assert (started.device, started.wanted_device, started.workers) == ("cuda", "cuda", 1)
    assert all(session.asked == [CUDA, CPU] for session in opened)


@pytest.mark.parametrize(("limit", "told"), [(0, None), (2_000_000_000, "2000000000")])
def test_memory_on_the_device_is_limited_where_that_is_asked_for(start, limit, told):
    _, opened = start("cuda", [CUDA, CPU], {CUDA, CPU}, gpu_memory_bytes=limit)
    assert len(opened) == 2
    for session in opened:
        assert session.provider_options[CUDA].get("gpu_mem_limit") == told


def test_auto_falls_back_to_proper_cpu_sessions(start, caplog):
    started, opened = start("auto", [CUDA, CPU], {CPU})
    assert (started.device, started.wanted_device) == ("cpu", "cuda")
    assert [session.asked for session in opened[-2:]] == [[CPU], [CPU]]
    assert all(session.options.intra_op_num_threads == 1 for session in opened[-2:])
    assert "cannot be used" in caplog.text


def test_cuda_asked_for_and_not_had_is_an_error(start):
    with pytest.raises(runtime.RuntimeUnavailableError, match="fell back to the CPU"):
        start("cuda", [CUDA, CPU], {CPU})
    with pytest.raises(runtime.RuntimeUnavailableError, match="install the extra `gpu`"):
        start("cuda", [CPU], {CPU})


def test_cpu_is_not_talked_out_of_it(start):
    started, opened = start("cpu", [CUDA, CPU], {CUDA, CPU})
    assert (started.device, started.wanted_device) == ("cpu", "cpu")
    assert all(session.asked == [CPU] for session in opened)


def test_a_graph_that_cannot_be_loaded_is_named(start, bundle_directory):
    with pytest.raises(BundleError) as refusal:
        start("cpu", [CPU], {CPU}, fails=True)
    assert str(refusal.value) == f"{bundle_directory / 'encoder.onnx'}: onnxruntime cannot load this graph"


def test_a_graph_with_other_inputs_than_the_manifest_says_is_refused(monkeypatch, bundle, manifest):
    module, _ = fake_onnxruntime(manifest, [CPU], {CPU})
    wrong = [Node(manifest.files["encoder.onnx"].inputs[0], shape=["N", 9, 9, 3])]
    module.InferenceSession.get_inputs = lambda self: wrong
    monkeypatch.setattr(runtime, "require_onnxruntime", lambda: module)
    with pytest.raises(BundleError, match=r"encoder\.onnx: its inputs are .* the manifest says"):
        runtime.OnnxRuntime(bundle, Settings(device="cpu"))


def test_warming_runs_every_size_of_both_graphs_largest_first(manifest):
    seen = []

    class Recorder(runtime.FakeRuntime):
        def encoder(self, inputs):
            seen.append(("encoder", len(inputs["image"])))
            return super().encoder(inputs)

        def decoder(self, inputs):
            seen.append(("decoder", len(inputs["latent"])))
            return super().decoder(inputs)

    runtime.warm(Recorder(manifest), manifest, [1, 2, 4])
    assert seen == [(name, size) for name in ("encoder", "decoder") for size in (4, 2, 1)]


def test_the_fake_is_a_runtime_like_the_real_one(manifest):
    fake = runtime.FakeRuntime(manifest)
    unknown = np.full((2, len(manifest.attributes)), np.nan, dtype=np.float32)
    size = manifest.frame.image_size
    found = fake.encoder({"image": np.zeros((2, size, size, 3), np.uint8), "attributes": unknown})
    decoded = fake.decoder({"latent": found["mean"], "attributes": found["attribute_estimates"]})
    for name, arrays in (("encoder.onnx", found), ("decoder.onnx", decoded)):
        for tensor in manifest.files[name].outputs:
            assert arrays[tensor.name].shape == (2, *tensor.shape[1:])
            assert str(arrays[tensor.name].dtype) == tensor.dtype


def test_onnxruntime_keeps_no_identifier_and_reports_nothing(tmp_path):
    pytest.importorskip("onnxruntime")
    code = "from service.runtime import require_onnxruntime; require_onnxruntime().SessionOptions()"
    variables = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables | homes, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []
