"""Sessions that run batches in memory set aside for them, as ONNX Runtime's I/O binding wants it.

A batch is copied to page-locked memory, from there to the device, and back in the same way. Addresses never change, so
a batch size can be captured as a CUDA graph: the whole run is then launched at once, and not operator by operator.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np

from service import memory
from service.memory import Arrays
from service.pinned import HostMemory

# ONNX Runtime keeps a captured graph with the thread that captured it, and nothing else may call CUDA while one is
# captured. So one thread runs everything where sessions are captured; only memory is freed where its last user is.
_CAPTURING = ThreadPoolExecutor(1, "cuda-graphs")
_GRAPH = "gpu_graph_id"
_UNCAPTURED = "-1"
_DTYPES = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class Buffers:
    """Memory on the host and on `device` for one batch of `rows`, bound to a session; for one batch at a time."""

    def __init__(
        self, onnxruntime: Any, session: Any, rows: int, device: str, library: ctypes.CDLL | None, captured: bool
    ) -> None:
        self._session, self._binding = session, session.io_binding()
        self._options = _options(onnxruntime, str(rows)) if captured else None
        inputs, outputs = session.get_inputs(), session.get_outputs()
        layout = [((rows, *node.shape[1:]), _DTYPES[node.type]) for node in [*inputs, *outputs]]
        self._memory = HostMemory(layout, library)
        values = [
            onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype.type, device, 0)
            for shape, dtype in layout
        ]
        bound = list(zip([*inputs, *outputs], self._memory.arrays, values, strict=True))
        self._inputs = {node.name: (array, value) for node, array, value in bound[: len(inputs)]}
        self._outputs = {
            node.name: (array, onnxruntime.OrtValue.ortvalue_from_numpy(array), value)
            for node, array, value in bound[len(inputs) :]
        }
        for name, (_, value) in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, (_, _, value) in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    @property
    def page_locked(self) -> bool:
        return self._memory.locked

    def fit(self, inputs: Arrays) -> bool:
        """Whether these are the session's inputs, all of the shapes and dtypes that the buffers have."""
        return inputs.keys() == self._inputs.keys() and all(
            array.shape == inputs[name].shape and array.dtype == inputs[name].dtype
            for name, (array, _) in self._inputs.items()
        )

    def run(self, inputs: Arrays) -> Arrays:
        """The outputs, in memory of their own: the next batch overwrites the buffers."""
        for name, (array, value) in self._inputs.items():
            array[...] = inputs[name]
            value.update_inplace(array)
        self._session.run_with_iobinding(self._binding, self._options)
        outputs = {}
        for name, (array, on_host, value) in self._outputs.items():
            on_host.update_inplace(value)
            outputs[name] = array.copy()
        return outputs

    def zeros(self) -> Arrays:
        """Inputs that fit."""
        return {name: np.zeros_like(array) for name, (array, _) in self._inputs.items()}


class BoundSession:
    """A session as a function of arrays, from any thread. Batches of `sizes` run in buffers on `device`, `sets` of them
    at once for each size; others as the session runs them by itself.

    Each size is run once at the beginning, to see that it can be. With `in_turns`, all such sessions of the process
    take turns in one thread, so that nothing disturbs a capture. With `captured`, for sessions that were opened with
    `enable_cuda_graph`, they take turns too, and that first run is captured. `page_locked` says whether all of the
    buffers on the host are. Raises what ONNX Runtime raises, and OutOfMemory.
    """

    def __init__(
        self,
        onnxruntime: Any,
        session: Any,
        sizes: Sequence[int] = (),
        device: str = "cpu",
        library: ctypes.CDLL | None = None,
        sets: int = 1,
        in_turns: bool = False,
        captured: bool = False,
    ) -> None:
        self._session, self.captured, self._in_turns = session, captured, captured or in_turns
        self._names = [output.name for output in session.get_outputs()]
        self._options = _options(onnxruntime, _UNCAPTURED) if captured else None
        self.page_locked = bool(sizes)
        self._free: dict[int, SimpleQueue[Buffers]] = {}
        for size in sorted(sizes, reverse=True):
            free = self._free[size] = SimpleQueue()
            for _ in range(1 if self._in_turns else sets):
                buffers = Buffers(onnxruntime, session, size, device, library, captured)
                self.page_locked &= buffers.page_locked
                free.put(buffers)
            self(buffers.zeros())

    def __call__(self, inputs: Arrays) -> Arrays:
        return _CAPTURING.submit(self._run, inputs).result() if self._in_turns else self._run(inputs)

    def plain(self, inputs: Arrays) -> Arrays:
        """As the session runs by itself, whatever the size."""
        with memory.translated():
            return dict(zip(self._names, self._session.run(self._names, inputs, self._options), strict=True))

    def _run(self, inputs: Arrays) -> Arrays:
        free = self._free.get(len(next(iter(inputs.values()))))
        if free is None:
            return self.plain(inputs)
        buffers = free.get()
        try:
            with memory.translated():
                return buffers.run(inputs) if buffers.fit(inputs) else self.plain(inputs)
        finally:
            free.put(buffers)


def _options(onnxruntime: Any, graph: str) -> Any:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(_GRAPH, graph)
    return options
