"""Sessions with I/O binding: batches run in preallocated buffers on the host and on the device.

A batch is copied to page-locked memory, from there to the device, and back in the same way. The addresses never change,
so each batch size can be captured as a CUDA graph, which launches all operators at once.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import numpy as np

from service.inference import out_of_memory
from service.inference.out_of_memory import Arrays
from service.inference.pinned_memory import HostMemory

# ONNX Runtime binds a captured graph to the thread that captured it, and no other thread may call CUDA meanwhile.
# So with captured sessions one thread runs everything. Only memory may be freed in other threads.
_CAPTURING = ThreadPoolExecutor(1, "cuda-graphs")
_GRAPH = "gpu_graph_id"
_UNCAPTURED = "-1"
_DTYPES = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}


class Buffers:
    """Buffers on the host and on `device` for one batch of `rows`, bound to a session; for one batch at a time."""

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
        """Whether these are the session's inputs, with the shapes and dtypes of the buffers."""
        return inputs.keys() == self._inputs.keys() and all(
            array.shape == inputs[name].shape and array.dtype == inputs[name].dtype
            for name, (array, _) in self._inputs.items()
        )

    def run(self, inputs: Arrays) -> Arrays:
        """Copies of the outputs, because the next batch overwrites the buffers."""
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
        """Inputs that fit, all zeros."""
        return {name: np.zeros_like(array) for name, (array, _) in self._inputs.items()}


class BoundSession:
    """A session as a function of arrays, callable from any thread.

    Batches of `sizes` run in buffers on `device`, up to `sets` batches of a size at once. Other sizes run without
    buffers. The constructor runs each size once, as a test. With `in_turns`, all such sessions of the process share one
    thread, so that nothing disturbs a capture. `captured` implies `in_turns`, is for sessions that were opened with
    `enable_cuda_graph`, and captures the first run of each size. `page_locked` tells whether all host buffers are.
    Raises OutOfMemory, and what ONNX Runtime raises.
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
        """Run a batch of any size without buffers."""
        with out_of_memory.translated():
            return dict(zip(self._names, self._session.run(self._names, inputs, self._options), strict=True))

    def _run(self, inputs: Arrays) -> Arrays:
        free = self._free.get(len(next(iter(inputs.values()))))
        if free is None:
            return self.plain(inputs)
        buffers = free.get()
        try:
            with out_of_memory.translated():
                return buffers.run(inputs) if buffers.fit(inputs) else self.plain(inputs)
        finally:
            free.put(buffers)


def _options(onnxruntime: Any, graph: str) -> Any:
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(_GRAPH, graph)
    return options
