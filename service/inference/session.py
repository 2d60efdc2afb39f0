"""Sessions of ONNX Runtime: the one place that imports it and opens graphs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from service.errors import RuntimeUnavailableError

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_ERRORS_ONLY = 3  # as ONNX Runtime numbers severities


def require_onnxruntime() -> Any:
    """The `onnxruntime` module. Raises RuntimeUnavailableError, naming both extras, if it is not installed."""
    # From 1.31 on it sends telemetry, unless this is set when it is imported.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as exc:
        raise RuntimeUnavailableError(
            "no inference runtime is installed: install Facet with the extra `cpu` (pip install '.[cpu]') "
            "or, for NVIDIA GPUs, the extra `gpu` (pip install '.[gpu]'), never both"
        ) from exc
    return onnxruntime


@cache
def _share_arena(onnxruntime: Any) -> None:
    """Let sessions on the CPU take memory from one arena of the process.

    Each has one of its own otherwise, which keeps what its largest batch took (benchmarks/README.md has figures).
    """
    arena = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    place = onnxruntime.OrtMemoryInfo("Cpu", arena, 0, onnxruntime.OrtMemType.DEFAULT)
    onnxruntime.create_and_register_allocator(place, None)


def open_session(
    graph: Path | bytes, threads: int = 0, providers: Sequence[str | tuple[str, dict[str, str]]] = (CPU,)
) -> Any:
    """An `onnxruntime.InferenceSession` for a file or a serialized model.

    `threads` work on one run; 0 is one per core. After a run they do not wait for the next one in a busy loop.
    `providers` are names, or names with options, by priority. Raises RuntimeUnavailableError, and what ONNX Runtime
    raises for a graph that it cannot load.
    """
    onnxruntime = require_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if list(providers) == [CPU]:
        _share_arena(onnxruntime)
        options.add_session_config_entry("session.use_env_allocators", "1")
    source = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(source, options, providers=list(providers))
