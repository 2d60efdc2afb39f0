"""Graphs that run: ONNX Runtime on CUDA or the CPU, and a fake with the same interface for tests."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service import cores, memory, pinned
from service.batcher import buckets
from service.binding import BoundSession
from service.bundle import Bundle, BundleError, GraphKind, Manifest
from service.memory import Arrays, OutOfMemory
from service.settings import Settings

log = logging.getLogger(__name__)

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class RuntimeUnavailableError(RuntimeError):
    """No inference runtime, or not on the device that was asked for; the message says what to install."""


class Runtime(Protocol):
    """The graphs of a bundle. All take and give arrays as the manifest describes, and may run in any thread."""

    device: str
    wanted_device: str  # where it would run if everything that is installed worked
    workers: int
    max_batch: int  # the largest batch that pays
    computes_here: bool  # whether a batch keeps a core of this machine busy
    padding: bool  # whether a batch that is not full should be padded to a size that was run before

    def encoder(self, inputs: Arrays) -> Arrays: ...

    def decoder(self, inputs: Arrays) -> Arrays: ...

    def editor(self, inputs: Arrays) -> Arrays: ...  # of bundles that have one


RuntimeFactory = Callable[[Bundle, Settings], Runtime]


def require_onnxruntime():
    """The `onnxruntime` module. Raises RuntimeUnavailableError, naming both extras, where it is not installed."""
    # It reports its use to its maker from 1.31 on, unless this is set when it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as exc:
        raise RuntimeUnavailableError(
            "no inference runtime is installed: install Facet with the extra `cpu` (pip install '.[cpu]') "
            "or, for NVIDIA GPUs, the extra `gpu` (pip install '.[gpu]'), never both"
        ) from exc
    return onnxruntime


class OnnxRuntime:
    """Sessions for one bundle.

    On a CPU every session runs single-threaded and `workers` batches run beside each other: measured, two workers of
    one thread do a third more images than one worker of two threads. A session may be used by many threads.
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        self._onnxruntime = require_onnxruntime()
        self.device = self.wanted_device = self._choose_device(settings.device)
        sessions = self._open(bundle, settings)
        if self.device == "cuda" and not _on_cuda(sessions):
            # onnxruntime falls back silently, also when it offers CUDA and was asked for nothing else.
            if settings.device == "cuda":
                raise RuntimeUnavailableError("FACET_DEVICE=cuda: the session fell back to the CPU; is there a GPU?")
            log.warning("CUDA is installed and cannot be used; running on the CPU")
            self.device = "cpu"
            sessions = self._open(bundle, settings)
        # A CPU takes twice as long for twice the images, so padding there is work for nothing.
        self.padding = self.device == "cuda"
        self.computes_here = self.device == "cpu"
        # Nor does it gain anything beyond some images: larger batches only take more memory and come less evenly.
        self.max_batch = 64 if self.device == "cuda" else 16
        self.workers = settings.workers or (1 if self.device == "cuda" else cores.available())
        self.graphs = dict(zip(bundle.manifest.graphs, self._bind(bundle, settings, sessions), strict=True))

    def encoder(self, inputs: Arrays) -> Arrays:
        return self.graphs["encoder.onnx"](inputs)

    def decoder(self, inputs: Arrays) -> Arrays:
        return self.graphs["decoder.onnx"](inputs)

    def editor(self, inputs: Arrays) -> Arrays:
        return self.graphs["editor.onnx"](inputs)

    def _choose_device(self, wanted: str) -> str:
        offered = _CUDA in self._onnxruntime.get_available_providers()
        if wanted == "cuda" and not offered:
            raise RuntimeUnavailableError(
                "FACET_DEVICE=cuda: this onnxruntime has no CUDA; install the extra `gpu` and not `cpu`"
            )
        if wanted == "cpu" or not offered:
            return "cpu"
        self._onnxruntime.preload_dlls()
        return "cuda"

    def _open(self, bundle: Bundle, settings: Settings, captured: bool = False) -> list:
        return [self._session(bundle, name, settings, captured) for name in bundle.manifest.graphs]

    def _session(self, bundle: Bundle, name: str, settings: Settings, captured: bool):
        options = self._onnxruntime.SessionOptions()
        options.log_severity_level = 3
        providers: list = [_CPU]
        if self.device == "cpu":
            options.intra_op_num_threads = 1
        else:
            providers.insert(0, (_CUDA, _cuda_options(settings, captured)))
        try:
            session = self._onnxruntime.InferenceSession(str(bundle.path(name)), options, providers=providers)
        except Exception as exc:  # onnxruntime raises its own types, which are not public
            if memory.is_exhaustion(exc):
                raise RuntimeUnavailableError(f"{bundle.path(name)}: there is not enough memory to load it") from exc
            raise BundleError(bundle.path(name), "onnxruntime cannot load this graph") from exc
        _check_interface(bundle, name, session)
        return session

    def _bind(self, bundle: Bundle, settings: Settings, sessions: list) -> list[BoundSession]:
        """On CUDA with buffers for every size of a batch, and captured where that is asked for and works."""
        if self.device == "cpu":
            return [BoundSession(self._onnxruntime, session) for session in sessions]
        buffers = {
            "sizes": buckets(settings.max_batch or self.max_batch),
            "device": "cuda",
            "library": pinned.runtime_library(self._onnxruntime.cuda_version),
            "sets": self.workers,
            "in_turns": settings.cuda_graphs,
        }
        if settings.cuda_graphs:
            try:
                return self._capture(bundle, settings, buffers)
            except Exception as exc:  # whatever it is, other sessions run without
                log.warning("FACET_CUDA_GRAPHS: batches cannot be captured; running without: %s", exc, exc_info=exc)
        try:
            return self._with_buffers(sessions, buffers)
        except Exception as exc:
            if memory.is_exhaustion(exc):
                rule = f"there is not enough memory for batches of {buffers['sizes'][-1]}; lower FACET_MAX_BATCH"
                raise RuntimeUnavailableError(f"{bundle.directory}: {rule}") from exc
            log.warning("batches do not run in buffers; running without: %s", exc, exc_info=exc)
            return [BoundSession(self._onnxruntime, session, in_turns=settings.cuda_graphs) for session in sessions]

    def _capture(self, bundle: Bundle, settings: Settings, buffers: dict) -> list[BoundSession]:
        sessions = self._open(bundle, settings, captured=True)
        if not _on_cuda(sessions):
            raise RuntimeError("the session fell back to the CPU")
        return self._with_buffers(sessions, buffers | {"captured": True})

    def _with_buffers(self, sessions: list, buffers: dict) -> list[BoundSession]:
        for session in sessions:
            session.disable_fallback()  # to the CPU, in the middle of a run and for good
        return [BoundSession(self._onnxruntime, session, **buffers) for session in sessions]


def _on_cuda(sessions: list) -> bool:
    return all(session.get_providers()[0] == _CUDA for session in sessions)


def _cuda_options(settings: Settings, captured: bool) -> dict[str, str]:
    options = {
        # Exhaustive search would stall for seconds on each new batch size.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The arena never shrinks, so it takes what is needed and no power of two of it.
        "arena_extend_strategy": "kSameAsRequested",
        # TF32 keeps 10 bits of each factor, as half precision does, and would be on: export compared fp32.
        "use_tf32": "0",
    }
    if settings.gpu_memory_bytes:
        options["gpu_mem_limit"] = str(settings.gpu_memory_bytes)
    if captured:
        options["enable_cuda_graph"] = "1"
    return options


def _check_interface(bundle: Bundle, name: str, session) -> None:
    """The graph's own inputs and outputs must be those of the manifest."""
    types = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}
    entry = bundle.manifest.files[name]
    for kind, found, expected in (
        ("input", session.get_inputs(), entry.inputs),
        ("output", session.get_outputs(), entry.outputs),
    ):
        actual = [(node.name, types.get(node.type, node.type), list(node.shape[1:])) for node in found]
        listed = [(tensor.name, tensor.dtype, list(tensor.shape[1:])) for tensor in expected]
        if actual != listed:
            raise BundleError(bundle.path(name), f"its {kind}s are {actual}; the manifest says {listed}")


def run_of(runtime: Runtime, kind: GraphKind) -> Callable[[Arrays], Arrays]:
    """The graph of that kind."""
    return getattr(runtime, kind)


def blank(manifest: Manifest, kind: GraphKind, rows: int) -> Arrays:
    """Zeros as inputs of a graph."""
    return {t.name: np.zeros((rows, *t.shape[1:]), t.dtype) for t in manifest.files[f"{kind}.onnx"].inputs}


def warm(runtime: Runtime, manifest: Manifest, sizes: list[int]) -> None:
    """Run every batch size once, the largest first, so that no request pays for a first time.

    Raises RuntimeUnavailableError where there is not enough memory for it.
    """
    for kind in manifest.graph_kinds:
        run = run_of(runtime, kind)
        for size in sorted(sizes, reverse=True):
            try:
                run(blank(manifest, kind, size))
            except OutOfMemory as exc:
                rule = f"{kind}.onnx has not enough memory for {size} images at once; lower FACET_MAX_BATCH"
                raise RuntimeUnavailableError(f"{manifest.name}: {rule}") from exc


@dataclass
class FakeRuntime:
    """A runtime without a model, for testing the API: arithmetic that a test can redo by hand.

    The encoder's mean holds the picture's average level, everywhere; unknown attributes are estimated as 0.25. The
    decoder paints one flat colour: 128 + 100 * the first attribute, plus the first latent value. The editor, within a
    third of the frame around its centre, multiplies by 1 + half the change of the second attribute, adds a quarter of
    the first one's, and takes pixels from a tenth of the frame to the right for each of the third one's.
    """

    manifest: Manifest
    device: str = "fake"
    wanted_device: str = "fake"
    workers: int = 2
    max_batch: int = 64
    computes_here: bool = False
    padding: bool = True

    def encoder(self, inputs: Arrays) -> Arrays:
        image, attributes = inputs["image"], inputs["attributes"]
        level = image.astype(np.float32).mean(axis=(1, 2, 3))
        mean = np.repeat(level[:, None], self.manifest.latent_size, axis=1)
        estimates = np.where(np.isnan(attributes), np.float32(0.25), attributes)
        return {"mean": mean, "log_variance": np.zeros_like(mean), "attribute_estimates": estimates}

    def decoder(self, inputs: Arrays) -> Arrays:
        size = self.manifest.frame.image_size
        level = 128 + 100 * inputs["attributes"][:, 0] + inputs["latent"][:, 0]
        flat = level.round().clip(0, 255).astype(np.uint8)
        return {"image": np.broadcast_to(flat[:, None, None, None], (len(flat), size, size, 3)).copy()}

    def editor(self, inputs: Arrays) -> Arrays:
        image, change = inputs["image"], inputs["change"]
        count, size = image.shape[:2]
        inside = np.abs((np.arange(size) + 0.5) / size - 0.5) < 1 / 6
        mask = np.broadcast_to(inside[:, None] & inside, (count, size, size)).astype(np.float32)[..., None]
        first, second, third = (change[:, place, None, None, None] for place in range(3))
        flow = np.concatenate([0.1 * third * mask, 0 * mask], axis=3)
        gain, residual = (np.broadcast_to(value, (count, size, size, 3)) for value in (0.5 * second, 0.25 * first))
        return {"mask": mask, "gain": gain.clip(-1, 1), "residual": residual.copy(), "flow": flow}
