"""The runtime interface, and its implementation with ONNX Runtime on CUDA or the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import numpy as np

from service import system
from service.bundle.loader import Bundle
from service.bundle.manifest import BundleError, GraphKind, Manifest
from service.errors import RuntimeUnavailableError
from service.inference import out_of_memory, pinned_memory
from service.inference.batcher import buckets
from service.inference.intra_op import IntraOpParallelism, Run
from service.inference.io_binding import BoundSession
from service.inference.out_of_memory import Arrays, OutOfMemory
from service.inference.session import CPU, CUDA, open_session, require_onnxruntime
from service.settings import Settings

log = logging.getLogger(__name__)

_MOST_THREADS = 4  # for one run; the graphs' layers are too small to be cut into many more parts


class Runtime(Protocol):
    """The graphs of a bundle, which map arrays as the manifest describes. They may be called in any thread."""

    device: str
    wanted_device: str  # the device without a fallback to the CPU
    workers: int
    max_batch: int  # larger batches give no more throughput
    computes_here: bool  # whether a batch occupies a core of this machine
    padding: bool  # whether a batch is padded to the next size of `buckets`

    def encoder(self, inputs: Arrays) -> Arrays: ...

    def decoder(self, inputs: Arrays) -> Arrays: ...

    def editor(self, inputs: Arrays) -> Arrays: ...  # of bundles that have one

    def prior(self, inputs: Arrays) -> Arrays: ...  # of bundles that have one


RuntimeFactory = Callable[[Bundle, Settings], Runtime]


class OnnxRuntime:
    """Sessions for one bundle. Raises RuntimeUnavailableError and BundleError.

    On a CPU `workers` batches run in parallel, with one thread each; a batch that finds idle cores has
    several (service.inference.intra_op). A session may be used by several threads at once.
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        self._onnxruntime = require_onnxruntime()
        self.device = self.wanted_device = self._choose_device(settings.device)
        sessions = self._open(bundle, settings)
        if self.device == "cuda" and not _on_cuda(sessions):
            # ONNX Runtime falls back to the CPU silently, even if CUDA is available and explicitly requested.
            if settings.device == "cuda":
                raise RuntimeUnavailableError("FACET_DEVICE=cuda: the session fell back to the CPU; is there a GPU?")
            log.warning("CUDA is installed and cannot be used; running on the CPU")
            self.device = "cpu"
            sessions = self._open(bundle, settings)
        # On a CPU the time of a batch is proportional to its size, so padding would waste it.
        self.padding = self.device == "cuda"
        self.computes_here = self.device == "cpu"
        self.max_batch = 64 if self.device == "cuda" else largest_cpu_batch(bundle.manifest.frame.image_size)
        self.workers = settings.workers or (1 if self.device == "cuda" else system.available_cores())
        bound = self._bind(bundle, settings, sessions)
        self.graphs: dict[str, Run] = dict(zip(bundle.manifest.graphs, bound, strict=True))
        if self.device == "cpu" and self.workers > 1:
            self._parallelise(bundle, settings)

    def encoder(self, inputs: Arrays) -> Arrays:
        return self.graphs["encoder.onnx"](inputs)

    def decoder(self, inputs: Arrays) -> Arrays:
        return self.graphs["decoder.onnx"](inputs)

    def editor(self, inputs: Arrays) -> Arrays:
        return self.graphs["editor.onnx"](inputs)

    def prior(self, inputs: Arrays) -> Arrays:
        return self.graphs["prior.onnx"](inputs)

    def _choose_device(self, wanted: str) -> str:
        offered = CUDA in self._onnxruntime.get_available_providers()
        if wanted == "cuda" and not offered:
            raise RuntimeUnavailableError(
                "FACET_DEVICE=cuda: this onnxruntime has no CUDA; install the extra `gpu` and not `cpu`"
            )
        if wanted == "cpu" or not offered:
            return "cpu"
        self._onnxruntime.preload_dlls()
        return "cuda"

    def _open(self, bundle: Bundle, settings: Settings, captured: bool = False, threads: int = 1) -> list:
        return [self._session(bundle, name, settings, captured, threads) for name in bundle.manifest.graphs]

    def _session(self, bundle: Bundle, name: str, settings: Settings, captured: bool, threads: int):
        on_cpu = self.device == "cpu"
        providers = [CPU] if on_cpu else [(CUDA, _cuda_options(settings, captured)), CPU]
        try:
            session = open_session(bundle.path(name), threads if on_cpu else 0, providers)
        except Exception as exc:  # ONNX Runtime's exception types are not public
            if out_of_memory.is_exhaustion(exc):
                raise RuntimeUnavailableError(f"{bundle.path(name)}: there is not enough memory to load it") from exc
            raise BundleError(bundle.path(name), "onnxruntime cannot load this graph") from exc
        _check_interface(bundle, name, session)
        return session

    def _parallelise(self, bundle: Bundle, settings: Settings) -> None:
        """Give a batch that finds idle cores several threads.

        The sessions for it hold the weights a second time.
        """
        threads = min(self.workers, _MOST_THREADS)
        sessions = self._open(bundle, settings, threads=threads)
        for name, parallel in zip(self.graphs, self._bind(bundle, settings, sessions), strict=True):
            self.graphs[name] = IntraOpParallelism(self.graphs[name], parallel, threads)

    def _bind(self, bundle: Bundle, settings: Settings, sessions: list) -> list[BoundSession]:
        """On CUDA, with buffers for every batch size, and captured as CUDA graphs if that is configured and works."""
        if self.device == "cpu":
            return [BoundSession(self._onnxruntime, session) for session in sessions]
        buffers = {
            "sizes": buckets(settings.max_batch or self.max_batch),
            "device": "cuda",
            "library": pinned_memory.runtime_library(self._onnxruntime.cuda_version),
            "sets": self.workers,
            "in_turns": settings.cuda_graphs,
        }
        if settings.cuda_graphs:
            try:
                return self._capture(bundle, settings, buffers)
            except Exception as exc:  # whatever failed, sessions without capture may work
                log.warning("FACET_CUDA_GRAPHS: batches cannot be captured; running without: %s", exc, exc_info=exc)
        try:
            return self._with_buffers(sessions, buffers)
        except Exception as exc:
            if out_of_memory.is_exhaustion(exc):
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
            session.disable_fallback()  # a failed run would move the session to the CPU for good
        return [BoundSession(self._onnxruntime, session, **buffers) for session in sessions]


def largest_cpu_batch(size: int) -> int:
    """Images of `size` x `size` pixels in a batch, 16 of 64 and 8 of 128: beyond, a CPU's throughput does not rise.

    Larger batches take more memory and add latency.
    """
    return max(1, min(16, 2**17 // size**2))


def _on_cuda(sessions: list) -> bool:
    return all(session.get_providers()[0] == CUDA for session in sessions)


def _cuda_options(settings: Settings, captured: bool) -> dict[str, str]:
    options = {
        # An exhaustive search takes seconds for each new batch size.
        "cudnn_conv_algo_search": "HEURISTIC",
        # The arena never shrinks, so it must not round up to powers of two.
        "arena_extend_strategy": "kSameAsRequested",
        # TF32 is on by default and keeps 10 bits of each factor, as fp16 does; the export compared fp32.
        "use_tf32": "0",
    }
    if settings.gpu_memory_bytes:
        options["gpu_mem_limit"] = str(settings.gpu_memory_bytes)
    if captured:
        options["enable_cuda_graph"] = "1"
    return options


def _check_interface(bundle: Bundle, name: str, session) -> None:
    """Raises BundleError if the inputs or outputs of the graph differ from the manifest's."""
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
    """The runtime's function for that graph."""
    return getattr(runtime, kind)


def blank(manifest: Manifest, kind: GraphKind, rows: int) -> Arrays:
    """Inputs of a graph, all zeros."""
    return {t.name: np.zeros((rows, *t.shape[1:]), t.dtype) for t in manifest.files[f"{kind}.onnx"].inputs}


def warm(runtime: Runtime, manifest: Manifest, sizes: list[int]) -> None:
    """Run every batch size once, the largest first, so that no request waits for an initialisation.

    Raises RuntimeUnavailableError if there is not enough memory.
    """
    for kind in manifest.graph_kinds:
        run = run_of(runtime, kind)
        for size in sorted(sizes, reverse=True):
            try:
                run(blank(manifest, kind, size))
            except OutOfMemory as exc:
                rule = f"{kind}.onnx has not enough memory for {size} images at once; lower FACET_MAX_BATCH"
                raise RuntimeUnavailableError(f"{manifest.name}: {rule}") from exc
