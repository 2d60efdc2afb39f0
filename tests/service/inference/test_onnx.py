"""The runtime against graphs of one node each, and against an onnxruntime that misbehaves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from service import system
from service.bundle.manifest import BundleError
from service.errors import RuntimeUnavailableError
from service.inference import onnx
from service.settings import Settings
from tests.fake_runtime import FakeRuntime
from tests.service import fakes

ROOT = Path(__file__).parents[3]


class Node:
    def __init__(self, tensor, shape=None):
        self.name = tensor.name
        self.type = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}[tensor.dtype]
        self.shape = shape or list(tensor.shape)


class Value:
    """A tensor on some device."""

    def __init__(self, array, device="cpu"):
        self.array, self.device = array, device

    @staticmethod
    def ortvalue_from_shape_and_type(shape, dtype, device, device_id):
        return Value(np.zeros(shape, dtype), f"{device}:{device_id}")

    @staticmethod
    def ortvalue_from_numpy(array):
        return Value(array)

    def update_inplace(self, source):
        self.array[...] = source.array if isinstance(source, Value) else source


class RunOptions(dict):
    add_run_config_entry = dict.__setitem__


class SessionOptions(types.SimpleNamespace):
    def add_session_config_entry(self, name, value):
        setattr(self, name, value)


class Binding:
    def __init__(self):
        self.values = {}

    def bind_ortvalue_input(self, name, value):
        self.values[name] = value

    bind_ortvalue_output = bind_ortvalue_input


def fake_onnxruntime(manifest, offered, granted, fails=False, capture="works", room=10**9, binds=True):
    """A module like onnxruntime that offers some providers and grants others. Every output is full of sevens.

    Where it does not bind, runs in buffers fail.
    Where capture does not work it "falls back", so that a session is on the CPU, or is "refused", when it first runs.
    Tensors on a device have at most `room` values.
    """
    opened, arenas = [], []

    class Session:
        def __init__(self, path, options, providers):
            if fails:
                raise RuntimeError("protobuf parsing failed")
            self.bound, self.threads, self.falls_back, self.runs = [], set(), True, []
            self.entry = manifest.files[path.rsplit("/", 1)[-1]]
            self.options, self.requested = options, [p if isinstance(p, str) else p[0] for p in providers]
            self.provider_options = dict(p for p in providers if not isinstance(p, str))
            opened.append(self)

        @property
        def captures(self):
            return self.provider_options.get(CUDA, {}).get("enable_cuda_graph") == "1"

        def get_providers(self):
            lost = {CUDA} if self.captures and capture == "falls back" else set()
            return [p for p in self.requested if p in granted - lost]

        def disable_fallback(self):
            self.falls_back = False

        def io_binding(self):
            return Binding()

        def run(self, names, inputs, options=None):
            self.runs.append(rows := len(next(iter(inputs.values()))))
            return [np.full((rows, *tensor.shape[1:]), 7, tensor.dtype) for tensor in self.entry.outputs]

        def run_with_iobinding(self, binding, options):
            if not binds:
                raise RuntimeError("no data transfer between these devices")
            if self.captures and capture == "refused":
                raise RuntimeError("operation not permitted when stream is capturing")
            self.bound.append(options and options["gpu_graph_id"])
            self.threads.add(threading.current_thread().name)
            assert {value.device for value in binding.values.values()} == {"cuda:0"}
            for node in self.get_outputs():
                binding.values[node.name].array[...] = 7

        def get_inputs(self):
            return [Node(t) for t in self.entry.inputs]

        def get_outputs(self):
            return [Node(t) for t in self.entry.outputs]

    class Limited(Value):
        @staticmethod
        def ortvalue_from_shape_and_type(shape, dtype, device, device_id):
            if np.prod(shape) > room:
                raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
            return Value.ortvalue_from_shape_and_type(shape, dtype, device, device_id)

    module = types.ModuleType("onnxruntime")
    vars(module).update(
        OrtValue=Limited,
        RunOptions=RunOptions,
        cuda_version="987.1",  # no such library is found, so memory is not page-locked
        SessionOptions=SessionOptions,
        InferenceSession=Session,
        get_available_providers=lambda: offered,
        preload_dlls=lambda: None,
        OrtAllocatorType=onnxruntime.OrtAllocatorType,
        OrtMemType=onnxruntime.OrtMemType,
        OrtMemoryInfo=onnxruntime.OrtMemoryInfo,
        create_and_register_allocator=lambda *arena: arenas.append(arena),
    )
    module.arenas = arenas
    return module, opened


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def start(monkeypatch, bundle, manifest):
    def start(device, offered, granted, fails=False, capture="works", room=10**9, binds=True, **settings):
        module, opened = fake_onnxruntime(manifest, offered, granted, fails, capture, room, binds)
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        return onnx.OnnxRuntime(bundle, Settings(device=device, **settings)), opened

    return start


@pytest.fixture
def bundle(bundle_directory):
    from service.bundle import loader

    return loader.load(bundle_directory)


def test_cuda_is_used_where_the_session_really_has_it(start):
    started, opened = start("auto", [CUDA, CPU], {CUDA, CPU})
    assert (started.device, started.wanted_device, started.workers) == ("cuda", "cuda", 1)
    assert all(session.requested == [CUDA, CPU] for session in opened)


@pytest.mark.parametrize(("limit", "told"), [(0, None), (2_000_000_000, "2000000000")])
def test_memory_on_the_device_is_limited_where_that_is_requested(start, limit, told):
    _, opened = start("cuda", [CUDA, CPU], {CUDA, CPU}, gpu_memory_bytes=limit)
    assert len(opened) == 2
    for session in opened:
        assert session.provider_options[CUDA].get("gpu_mem_limit") == told


def test_cuda_computes_in_fp32_and_a_failed_run_does_not_move_to_the_cpu(start):
    _, opened = start("cuda", [CUDA, CPU], {CUDA, CPU})
    assert {session.provider_options[CUDA]["use_tf32"] for session in opened} == {"0"}
    assert not any(session.falls_back for session in opened)


def decoder_inputs(manifest, rows):
    return {t.name: np.zeros((rows, *t.shape[1:]), t.dtype) for t in manifest.files["decoder.onnx"].inputs}


def test_batches_on_cuda_run_in_buffers_on_the_device(start, manifest):
    started, opened = start("cuda", [CUDA, CPU], {CUDA, CPU}, max_batch=4)
    assert started.decoder(decoder_inputs(manifest, 4))["image"].tolist() == np.full((4, 8, 8, 3), 7).tolist()
    assert [session.bound for session in opened] == [[None] * 3, [None] * 4]  # each size once at the beginning
    assert not any(session.captures for session in opened)


def test_an_editor_runs_in_buffers_like_the_other_graphs(monkeypatch, tmp_path):
    from service.bundle import loader

    fakes.write_bundle(tmp_path / "tiny", schema=2, editor=True)
    edited = loader.load(tmp_path / "tiny")
    module, opened = fake_onnxruntime(edited.manifest, [CUDA, CPU], {CUDA, CPU})
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    started = onnx.OnnxRuntime(edited, Settings(device="cuda", max_batch=4))
    assert list(started.graphs) == ["encoder.onnx", "decoder.onnx", "editor.onnx"]
    found = started.editor(onnx.blank(edited.manifest, "editor", 4))
    assert {name: array.shape for name, array in found.items()} == {
        "mask": (4, 12, 12, 1), "gain": (4, 12, 12, 3), "residual": (4, 12, 12, 3), "flow": (4, 12, 12, 2),
    }  # fmt: skip
    assert [len(session.bound) for session in opened] == [3, 3, 4]


def test_each_size_of_a_batch_is_captured_where_that_is_requested(start, manifest):
    started, opened = start("cuda", [CUDA, CPU], {CUDA, CPU}, max_batch=6, cuda_graphs=True)
    serving = [session for session in opened if session.captures]
    assert [session.bound for session in serving] == [["6", "4", "2", "1"]] * 2
    assert not any(session.falls_back for session in serving)
    started.decoder(decoder_inputs(manifest, 2))
    assert serving[1].bound[-1] == "2"


@pytest.mark.parametrize(
    ("capture", "reason"), [("falls back", "fell back to the CPU"), ("refused", "when stream is capturing")]
)
def test_where_capture_does_not_work_it_runs_without(start, manifest, caplog, capture, reason):
    started, opened = start("cuda", [CUDA, CPU], {CUDA, CPU}, capture=capture, cuda_graphs=True)
    assert "FACET_CUDA_GRAPHS: batches cannot be captured; running without" in caplog.text
    assert reason in caplog.text
    started.decoder(decoder_inputs(manifest, 2))
    running = [session for session in opened if not session.captures]
    assert [session.bound for session in running] == [[None] * 7, [None] * 8]
    assert threading.current_thread().name not in running[1].threads  # where another model's capture would be disturbed


def test_where_buffers_do_not_work_it_runs_without(start, manifest, caplog):
    started, opened = start("auto", [CUDA, CPU], {CUDA, CPU}, binds=False, max_batch=2)
    assert started.device == "cuda"
    assert "batches do not run in buffers; running without: no data transfer" in caplog.text
    assert started.decoder(decoder_inputs(manifest, 2))["image"].tolist() == np.full((2, 8, 8, 3), 7).tolist()
    assert not any(session.falls_back for session in opened)


def test_buffers_that_find_no_memory_name_the_setting(start):
    with pytest.raises(RuntimeUnavailableError, match=r"memory for batches of 32; lower FACET_MAX_BATCH"):
        start("cuda", [CUDA, CPU], {CUDA, CPU}, room=16 * 8 * 8 * 3, max_batch=32)


def test_auto_falls_back_to_proper_cpu_sessions(start, caplog):
    started, opened = start("auto", [CUDA, CPU], {CPU}, workers=1)
    assert (started.device, started.wanted_device) == ("cpu", "cuda")
    assert [session.requested for session in opened[-2:]] == [[CPU], [CPU]]
    assert all(session.options.intra_op_num_threads == 1 for session in opened[-2:])
    assert "cannot be used" in caplog.text


def test_cuda_requested_and_not_had_is_an_error(start):
    with pytest.raises(RuntimeUnavailableError, match="fell back to the CPU"):
        start("cuda", [CUDA, CPU], {CPU})
    with pytest.raises(RuntimeUnavailableError, match="install the extra `gpu`"):
        start("cuda", [CPU], {CPU})


def test_cpu_is_not_talked_out_of_it(start):
    started, opened = start("cpu", [CUDA, CPU], {CUDA, CPU})
    assert (started.device, started.wanted_device) == ("cpu", "cpu")
    assert all(session.requested == [CPU] for session in opened)


@pytest.mark.parametrize(("workers", "threads"), [(1, [1, 1]), (2, [1, 1, 2, 2]), (40, [1, 1, 4, 4])])
def test_on_a_cpu_there_are_sessions_of_one_thread_and_of_several(start, workers, threads):
    opened = start("cpu", [CPU], {CPU}, workers=workers)[1]
    assert [session.options.intra_op_num_threads for session in opened] == threads


@pytest.mark.parametrize(("size", "images"), [(8, 16), (64, 16), (128, 8), (256, 2), (512, 1)])
def test_the_largest_batch_on_a_cpu_shrinks_with_the_pictures(size, images):
    assert onnx.largest_cpu_batch(size) == images


def test_all_sessions_on_a_cpu_share_one_arena(start):
    opened = start("cpu", [CPU], {CPU}, workers=2)[1]
    settings = vars(opened[0].options)
    assert {vars(session.options)["session.use_env_allocators"] for session in opened} == {"1"}, settings
    assert len(sys.modules["onnxruntime"].arenas) == 1


@pytest.mark.skipif(system.available_cores() < 2, reason="there is one core")
def test_a_batch_that_runs_alone_has_several_threads(start, manifest):
    started, opened = start("cpu", [CPU], {CPU}, workers=2)
    blank = onnx.blank(manifest, "decoder", 3)
    single, parallel = opened[1], opened[3]
    started.decoder(blank)
    assert (single.runs, parallel.runs) == ([], [3])
    inner = threading.Event(), threading.Event()
    run = parallel.run

    def wait(*args):
        inner[0].set()
        assert inner[1].wait(10)
        return run(*args)

    parallel.run = wait
    alone = threading.Thread(target=started.decoder, args=(blank,))
    alone.start()
    assert inner[0].wait(10)
    started.decoder(blank)  # beside the other
    started.encoder(onnx.blank(manifest, "encoder", 1))
    assert (single.runs, parallel.runs, opened[0].runs, opened[2].runs) == ([3], [3], [1], [])
    inner[1].set()
    alone.join()
    parallel.run = run
    started.decoder(blank)
    assert (single.runs, parallel.runs) == ([3], [3, 3, 3])


def test_a_graph_that_cannot_be_loaded_is_named(start, bundle_directory):
    with pytest.raises(BundleError) as refusal:
        start("cpu", [CPU], {CPU}, fails=True)
    assert str(refusal.value) == f"{bundle_directory / 'encoder.onnx'}: onnxruntime cannot load this graph"


def test_a_graph_with_other_inputs_than_the_manifest_says_is_refused(monkeypatch, bundle, manifest):
    module, _ = fake_onnxruntime(manifest, [CPU], {CPU})
    wrong = [Node(manifest.files["encoder.onnx"].inputs[0], shape=["N", 9, 9, 3])]
    module.InferenceSession.get_inputs = lambda self: wrong
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    with pytest.raises(BundleError, match=r"encoder\.onnx: its inputs are .* the manifest says"):
        onnx.OnnxRuntime(bundle, Settings(device="cpu"))


def test_warming_runs_every_size_of_both_graphs_largest_first(manifest):
    seen = []

    class Recorder(FakeRuntime):
        def encoder(self, inputs):
            seen.append(("encoder", len(inputs["image"])))
            return super().encoder(inputs)

        def decoder(self, inputs):
            seen.append(("decoder", len(inputs["latent"])))
            return super().decoder(inputs)

    onnx.warm(Recorder(manifest), manifest, [1, 2, 4])
    assert seen == [(name, size) for name in ("encoder", "decoder") for size in (4, 2, 1)]


def test_the_fake_is_a_runtime_like_the_real_one(manifest):
    fake = FakeRuntime(manifest)
    unknown = np.full((2, len(manifest.attributes)), np.nan, dtype=np.float32)
    size = manifest.frame.image_size
    found = fake.encoder({"image": np.zeros((2, size, size, 3), np.uint8), "attributes": unknown})
    decoded = fake.decoder({"latent": found["mean"], "attributes": found["attribute_estimates"]})
    for name, arrays in (("encoder.onnx", found), ("decoder.onnx", decoded)):
        for tensor in manifest.files[name].outputs:
            assert arrays[tensor.name].shape == (2, *tensor.shape[1:])
            assert str(arrays[tensor.name].dtype) == tensor.dtype


@pytest.mark.slow
def test_onnxruntime_keeps_no_identifier_and_reports_nothing(tmp_path):
    pytest.importorskip("onnxruntime")
    code = "from service.inference.session import require_onnxruntime; require_onnxruntime().SessionOptions()"
    variables = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables | homes, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []
