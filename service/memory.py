"""What is done when a graph runs out of memory: the batch is halved and tried again, down to single images.

OutOfMemory  a runtime could not allocate what a batch takes
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from service.metrics import Metrics

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]
log = logging.getLogger(__name__)

# What ONNX Runtime, CUDA, cuDNN and cuBLAS say, lower case. They have no type for it: a failed allocation comes as the
# same `Fail` or `RuntimeException` as everything else.
_SIGNS = ("failed to allocate memory", "out of memory", "alloc_failed", "bad_alloc", "bad allocation")


class OutOfMemory(MemoryError):
    """A graph could not allocate what a batch takes. The name is the label `kind` in the metrics."""


def is_exhaustion(exc: Exception) -> bool:
    """Whether an exception of a runtime means that memory could not be allocated."""
    return isinstance(exc, MemoryError) or any(sign in str(exc).lower() for sign in _SIGNS)


@contextmanager
def translated() -> Iterator[None]:
    """What a runtime raises inside where memory is short becomes OutOfMemory."""
    try:
        yield
    except Exception as exc:
        if is_exhaustion(exc):
            raise OutOfMemory(str(exc)) from exc
        raise


def run_halving(run: Run, inputs: Arrays, halved: Callable[[int], None] = lambda _: None) -> Arrays:
    """`run(inputs)`, in parts where the whole takes too much memory; `halved` is told the size of each that did.

    Parts are powers of two, as the sizes of batches are. Raises OutOfMemory where one row alone takes too much.
    """
    size = len(next(iter(inputs.values())))
    try:
        return run(inputs)
    except OutOfMemory:
        if size == 1:
            raise
    # Outside of the handler: its exception holds on to the arrays of the run that failed.
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


class Frugal:
    """A graph's `run` that halves its batches where memory is short, and knows whether it is.

    `short` from a single image that found no memory until something has run again. Called from worker threads.
    """

    def __init__(self, graph: str, run: Run, metrics: Metrics) -> None:
        self._graph, self._run, self._metrics = graph, run, metrics
        self.short = False

    def __call__(self, inputs: Arrays) -> Arrays:
        try:
            outputs = run_halving(self._run, inputs, self._halved)
        except MemoryError as exc:  # also where the parts do not fit together
            self.short = True
            raise OutOfMemory(str(exc)) from exc
        self.short = False
        return outputs

    def _halved(self, size: int) -> None:
        self._metrics.inference_errors.labels(OutOfMemory.__name__).inc()
        log.warning("%d images at once take too much memory in the %s graph; trying in halves", size, self._graph)
