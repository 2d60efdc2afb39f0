"""TensorFlow Lite files of plain convolutional networks as ONNX graphs, so that one runtime is enough for all networks.

The file is a FlatBuffer: tables that point to a list of their fields' places. Read is what such networks use of
TensorFlow Lite's public schema (version 3); an operator or a type outside of that is refused, and never guessed.
Weights stored as float16 become float32, as the runtime's own DEQUANTIZE makes them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17
_IDENTIFIER = b"TFL3"
_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}
_SAME, _VALID = 0, 1


class TfliteError(ValueError):
    """A file that is no TensorFlow Lite model, or uses what is not supported; the message says which."""


class _Table:
    """A FlatBuffer table; fields are numbered in the order of the schema, and absent ones have their default."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data, self._place = data, offset
        self._fields = offset - self._number("<i", offset)
        self._size = self._number("<H", self._fields)

    def number(self, field: int, code: str = "<i", default: int = 0) -> int:
        offset = self._find(field)
        return default if offset is None else self._number(code, offset)

    def table(self, field: int) -> _Table | None:
        offset = self._find(field)
        return None if offset is None else _Table(self._data, self._followed(offset))

    def tables(self, field: int) -> list[_Table]:
        start, count = self._vector(field)
        return [_Table(self._data, self._followed(start + 4 * number)) for number in range(count)]

    def numbers(self, field: int) -> list[int]:
        start, count = self._vector(field)
        return list(struct.unpack_from(f"<{count}i", self._data, start))

    def bytes(self, field: int) -> bytes:
        start, count = self._vector(field)
        return self._data[start : start + count]

    def _find(self, field: int) -> int | None:
        entry = 4 + 2 * field
        offset = self._number("<H", self._fields + entry) if entry < self._size else 0
        return self._place + offset if offset else None

    def _vector(self, field: int) -> tuple[int, int]:
        offset = self._find(field)
        if offset is None:
            return 0, 0
        start = self._followed(offset)
        return start + 4, self._number("<I", start)

    def _followed(self, offset: int) -> int:
        return offset + self._number("<I", offset)

    def _number(self, code: str, offset: int) -> int:
        return struct.unpack_from(code, self._data, offset)[0]


@dataclass(frozen=True)
class _Operator:
    """One operation: its kind, tensors by number, and the table of its options."""

    code: int | str
    inputs: list[int]
    outputs: list[int]
    options: _Table | None
    custom: bytes

    def option(self, field: int, code: str = "<i", default: int = 0) -> int:
        return default if self.options is None else self.options.number(field, code, default)


def to_onnx(data: bytes) -> onnx.ModelProto:
    """The network as an ONNX model with the file's own input and output, float32 [N, H, W, C], N free.

    Raises TfliteError.
    """
    if data[4:8] != _IDENTIFIER:
        raise TfliteError(f"begins with {data[:8]!r}; a TensorFlow Lite model has {_IDENTIFIER!r} at its fifth byte")
    try:
        return _Converter(_Table(data, struct.unpack_from("<I", data)[0])).convert()
    except (struct.error, IndexError) as exc:
        raise TfliteError(f"truncated or corrupt: {exc}") from exc


class _Converter:
    def __init__(self, model: _Table) -> None:
        graphs = model.tables(2)
        if len(graphs) != 1:
            raise TfliteError(f"has {len(graphs)} graphs; one is supported")
        codes = [self._code(table) for table in model.tables(1)]
        self._buffers, self._graph = model.tables(4), graphs[0]
        self._tensors = self._graph.tables(0)
        self._operators = [
            _Operator(codes[t.number(0, "<I")], t.numbers(1), t.numbers(2), t.table(4), t.bytes(5))
            for t in self._graph.tables(3)
        ]
        self._constants: dict[int, np.ndarray] = {}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    @staticmethod
    def _code(table: _Table) -> int | str:
        """The operator's number in the schema, or the name of one outside of it."""
        number = max(table.number(0, "<b"), table.number(3))  # the first is what older files have
        return table.bytes(1).decode() if number == 32 else number

    def convert(self) -> onnx.ModelProto:
        (given,), (result,) = self._graph.numbers(1), self._graph.numbers(2)
        self._add("Transpose", ["image"], self._name(given), perm=[0, 3, 1, 2])
        for operator in self._operators:
            if operator.code not in _OPERATORS:
                raise TfliteError(f"has operator {operator.code}, which is not supported")
            _OPERATORS[operator.code](self, operator)
        self._add("Transpose", [self._name(result)], "output", perm=[0, 2, 3, 1])
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *self._shape(tensor)[1:]])
            for name, tensor in (("image", given), ("output", result))
        ]
        graph = helper.make_graph(self._nodes, "tflite", values[:1], values[1:], self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        return model

    # -- operators, float32 [N, C, H, W] inside ---------------------------------------------------------------------

    def dequantize(self, operator: _Operator) -> None:
        self._constants[operator.outputs[0]] = self._constant(operator.inputs[0]).astype(np.float32)

    def convolution(self, operator: _Operator) -> None:
        weights = self._constant(operator.inputs[1]).transpose(0, 3, 1, 2)  # [out, H, W, in] -> [out, in, H, W]
        dilations = [operator.option(5, default=1), operator.option(4, default=1)]
        self._convolve(operator, weights, activation=3, dilations=dilations)

    def depthwise(self, operator: _Operator) -> None:
        weights = self._constant(operator.inputs[1]).transpose(3, 0, 1, 2)  # [1, H, W, out] -> [out, 1, H, W]
        groups = self._shape(operator.inputs[0])[3]
        dilations = [operator.option(6, default=1), operator.option(5, default=1)]
        self._convolve(operator, weights, activation=4, dilations=dilations, group=groups)

    def _convolve(self, operator: _Operator, weights: np.ndarray, activation: int, **attributes) -> None:
        self._emit(
            operator,
            "Conv",
            [self._name(operator.inputs[0]), self._keep(weights), self._keep(self._constant(operator.inputs[2]))],
            activation,
            strides=[operator.option(2), operator.option(1)],
            auto_pad=self._padding(operator),
            kernel_shape=list(weights.shape[2:]),
            **attributes,
        )

    def transposed_convolution(self, operator: _Operator) -> None:
        """MediaPipe's own: a transposed convolution and a bias. Options: padding, and the strides."""
        weights = self._constant(operator.inputs[1]).transpose(3, 0, 1, 2)  # [out, H, W, in] -> [in, out, H, W]
        _, *strides = struct.unpack("<3i", operator.custom)
        if list(weights.shape[2:]) != strides[::-1]:
            raise TfliteError(f"has a transposed convolution of {weights.shape[2:]} with strides {strides}; not equal")
        given = [self._name(operator.inputs[0]), self._keep(weights), self._keep(self._constant(operator.inputs[2]))]
        self._add("ConvTranspose", given, self._name(operator.outputs[0]), strides=strides[::-1])

    def average_pool(self, operator: _Operator) -> None:
        self._emit(
            operator,
            "AveragePool",
            [self._name(operator.inputs[0])],
            activation=5,
            kernel_shape=[operator.option(4), operator.option(3)],
            strides=[operator.option(2), operator.option(1)],
            auto_pad=self._padding(operator),
        )

    def resize(self, operator: _Operator) -> None:
        if operator.option(2, "<b") or not operator.option(3, "<b"):
            raise TfliteError("resizes with aligned corners or without half-pixel centres, which is not supported")
        height, width = (int(side) for side in self._constant(operator.inputs[1]))
        before = self._shape(operator.inputs[0])
        scales = self._keep(np.array([1, 1, height / before[1], width / before[2]], dtype=np.float32))
        given = [self._name(operator.inputs[0]), "", scales]
        self._add("Resize", given, self._name(operator.outputs[0]), mode="linear")

    def _padding(self, operator: _Operator) -> str:
        padding = operator.option(0, "<b")
        if padding not in (_SAME, _VALID):
            raise TfliteError(f"has padding {padding}, which is not supported")
        return "SAME_UPPER" if padding == _SAME else "VALID"

    # -- the graph so far ---------------------------------------------------------------------------------------

    def _emit(self, operator: _Operator, kind: str, given: list[str], activation: int, **attributes) -> None:
        """A node, and the activation that field `activation` of its options asks for."""
        fused = operator.option(activation, "<b")
        if fused not in (0, 1):
            raise TfliteError(f"has the fused activation {fused}, which is not supported")
        result = self._name(operator.outputs[0])
        self._add(kind, given, f"{result}.linear" if fused else result, **attributes)
        if fused:
            self._add("Relu", [f"{result}.linear"], result)

    def _add(self, kind: str, given: list[str], result: str, **attributes) -> None:
        self._nodes.append(helper.make_node(kind, given, [result], **attributes))

    def _keep(self, array: np.ndarray) -> str:
        name = f"constant{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _name(self, tensor: int) -> str:
        return f"tensor{tensor}"

    def _shape(self, tensor: int) -> list[int]:
        return self._tensors[tensor].numbers(0)

    def _constant(self, tensor: int) -> np.ndarray:
        if tensor in self._constants:
            return self._constants[tensor]
        table = self._tensors[tensor]
        data = self._buffers[table.number(2, "<I")].bytes(0)
        dtype = _DTYPES.get(table.number(1, "<b"))
        shape = table.numbers(0)
        if dtype is None or len(data) != int(np.prod(shape)) * np.dtype(dtype).itemsize:
            raise TfliteError(f"has no constant of float32, float16 or int32 {shape} where an operator needs one")
        return np.frombuffer(data, dtype).reshape(shape)


def _unary(kind: str) -> Callable[[_Converter, _Operator], None]:
    def convert(self: _Converter, operator: _Operator) -> None:
        self._add(kind, [self._name(operator.inputs[0])], self._name(operator.outputs[0]))

    return convert


def _pairwise(kind: str) -> Callable[[_Converter, _Operator], None]:
    def convert(self: _Converter, operator: _Operator) -> None:
        self._emit(operator, kind, [self._name(tensor) for tensor in operator.inputs], activation=0)

    return convert


_OPERATORS: dict[int | str, Callable[[_Converter, _Operator], None]] = {
    0: _pairwise("Add"),
    1: _Converter.average_pool,
    3: _Converter.convolution,
    4: _Converter.depthwise,
    6: _Converter.dequantize,
    14: _unary("Sigmoid"),
    18: _pairwise("Mul"),
    19: _unary("Relu"),
    23: _Converter.resize,
    117: _unary("HardSwish"),
    "Convolution2DTransposeBias": _Converter.transposed_convolution,
}
