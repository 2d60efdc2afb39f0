"""Out-of-memory fallback: a batch that does not fit into memory is halved and run again, down to single images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from service.telemetry.metrics import Metrics

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]
log = logging.getLogger(__name__)

# Texts of ONNX Runtime, CUDA, cuDNN and cuBLAS, in lower case. They raise the same `Fail` or `RuntimeException` for a
# failed allocation as for any other error.
_MESSAGES = ("failed to allocate memory", "out of memory", "alloc_failed", "bad_alloc", "bad allocation")


class OutOfMemory(MemoryError):
    """A graph could not allocate memory for a batch. The class name is the label `kind` in the metrics."""


def is_exhaustion(exc: Exception) -> bool:
    """Whether an exception of a runtime reports a failed allocation."""
    return isinstance(exc, MemoryError) or any(message in str(exc).lower() for message in _MESSAGES)


@contextmanager
def translated() -> Iterator[None]:
    """Turn a runtime's exceptions for failed allocations into OutOfMemory."""
    try:
        yield
    except Exception as exc:
        if is_exhaustion(exc):
            raise OutOfMemory(str(exc)) from exc
        raise


def run_halving(run: Run, inputs: Arrays, halved: Callable[[int], None] = lambda _: None) -> Arrays:
    """`run(inputs)`, in halves if the whole takes too much memory; `halved` is called with the size that failed.

    The sizes are powers of two, as those of batches. Raises OutOfMemory if a single row does not fit.
    """
    size = len(next(iter(inputs.values())))
    try:
        return run(inputs)
    except OutOfMemory:
        if size == 1:
            raise
    # Outside of the exception handler, since the exception references the arrays of the failed run.
    halved(size)
    half = 1 << ((size - 1).bit_length() - 1)
    parts = [
        run_halving(run, {name: array[part] for name, array in inputs.items()}, halved)
        for part in (slice(0, half), slice(half, None))
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def run_in_parts(run: Run, inputs: Arrays, largest: int) -> Arrays:
    """`run(inputs)`, at most `largest` rows at a time."""
    count = len(next(iter(inputs.values())))
    parts = [
        run({name: array[start : start + largest] for name, array in inputs.items()})
        for start in range(0, count, largest)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class OutOfMemoryFallback:
    """A graph's `run` that halves batches which do not fit into memory. Called from worker threads.

    `short` is True after a single image did not fit, until a run succeeds again.
    """

    def __init__(self, graph: str, run: Run, metrics: Metrics) -> None:
        self._graph, self._run, self._metrics = graph, run, metrics
        self.short = False

    def __call__(self, inputs: Arrays) -> Arrays:
        try:
            outputs = run_halving(self._run, inputs, self._halved)
        except MemoryError as exc:  # also from joining the parts
            self.short = True
            raise OutOfMemory(str(exc)) from exc
        self.short = False
        return outputs

    def _halved(self, size: int) -> None:
        self._metrics.inference_errors.labels(OutOfMemory.__name__).inc()
        log.warning("%d images at once take too much memory in the %s graph; trying in halves", size, self._graph)
