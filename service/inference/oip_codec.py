"""Encoding and decoding of Open Inference Protocol messages (KServe's V2): tensors as JSON, or as bytes after it.

The server `service.api.oip` and the client `service.inference.remote` share it. Binary tensors follow Triton's binary
tensor data extension: little-endian, in the order in which the JSON lists them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from service.bundle.manifest import GraphKind, Manifest, Tensor

HEADER_LENGTH = "Inference-Header-Content-Length"
DISABLED_ATTRIBUTES = "withheld_attributes"  # parameter in model metadata: names that the server has disabled
Arrays = dict[str, np.ndarray]

_DATATYPES = {"uint8": "UINT8", "float32": "FP32"}
_DTYPES = {"UINT8": np.dtype("u1"), "FP32": np.dtype("<f4")}


class ProtocolError(ValueError):
    """A message that breaks a rule. `field` names the part of the message, `value` is its value if that is short."""

    def __init__(self, field: str, value: Any, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field, self.value, self.rule = field, value, rule


@dataclass(frozen=True)
class Graph:
    """One graph of a bundle as a model of the protocol, with a name such as `<bundle>-encoder`."""

    bundle: str
    version: str
    kind: GraphKind
    inputs: list[Tensor]
    outputs: list[Tensor]

    @classmethod
    def of(cls, manifest: Manifest, kind: GraphKind) -> Graph:
        entry = manifest.files[f"{kind}.onnx"]
        return cls(manifest.name, manifest.version, kind, entry.inputs, entry.outputs)

    @property
    def name(self) -> str:
        return f"{self.bundle}-{self.kind}"

    def metadata(self) -> dict[str, Any]:
        """The model's metadata, as the protocol defines them."""
        described = {"name": self.name, "versions": [self.version], "platform": "onnxruntime_onnx"}
        return described | {"inputs": interface(self.inputs), "outputs": interface(self.outputs)}


def interface(tensors: list[Tensor]) -> list[dict[str, Any]]:
    """The descriptions of tensors in model metadata; the batch axis is -1."""
    return [{"name": t.name, "datatype": _DATATYPES[t.dtype], "shape": [-1, *t.shape[1:]]} for t in tensors]


def split(body: bytes, header_length: str | None) -> tuple[bytes, memoryview]:
    """A message's JSON and the bytes after it. `header_length` is the header HEADER_LENGTH. Raises ProtocolError."""
    if header_length is None:
        return body, memoryview(b"")
    digits = header_length.isascii() and header_length.isdigit() and len(header_length) < 20
    length = int(header_length) if digits else -1
    if not 0 < length <= len(body):
        raise ProtocolError(HEADER_LENGTH, header_length, f"must be 1 to {len(body)}, the length of the body")
    return body[:length], memoryview(body)[length:]


def parse(text: bytes) -> dict[str, Any]:
    """The JSON object of a message. Raises ProtocolError."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
        raise ProtocolError("body", None, "must begin with valid JSON") from exc
    if not isinstance(header, dict):
        raise ProtocolError("body", None, "must be a JSON object")
    return header


def read(
    header: dict[str, Any], key: Literal["inputs", "outputs"], binary: memoryview, tensors: list[Tensor]
) -> Arrays:
    """The arrays that `header[key]` describes: each of `tensors` once, in any order, all with the same number of rows.

    `binary` are the bytes after the JSON. No array is larger than the message. Raises ProtocolError.
    """
    listed = _listed(header, key, tensors)
    if missing := [tensor.name for tensor in tensors if tensor.name not in listed]:
        raise ProtocolError(f"{key}.{missing[0]}", None, "is required")
    known, arrays = {tensor.name: tensor for tensor in tensors}, {}
    for name, described in listed.items():
        field = f"{key}.{name}"
        dtype, shape = _expected(field, described, known[name])
        size = _parameters(field, described).get("binary_data_size")
        if size is None:
            arrays[name] = _from_json(f"{field}.data", described.get("data"), dtype, shape)
        else:
            if described.get("data") is not None:
                raise ProtocolError(f"{field}.data", None, "cannot be given together with binary_data_size")
            arrays[name], binary = _from_bytes(field, size, binary, dtype, shape)
    if len(binary):
        raise ProtocolError("body", None, f"{len(binary)} bytes belong to none of the {key}")
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name} {count}" for name, count in rows.items())
        raise ProtocolError(f"{key}.{next(iter(rows))}.shape", None, f"all must have as many rows; found {counts}")
    return arrays


def requested(header: dict[str, Any], tensors: list[Tensor]) -> dict[str, bool]:
    """The requested outputs, by default all, and whether each is sent as bytes. Raises ProtocolError."""
    default = _parameters("body", header).get("binary_data_output", False)
    if header.get("outputs") is None:
        return dict.fromkeys((tensor.name for tensor in tensors), _flag("parameters.binary_data_output", default))
    as_bytes = {}
    for name, described in _listed(header, "outputs", tensors).items():
        parameters = _parameters(f"outputs.{name}", described)
        if parameters.get("classification"):
            raise ProtocolError(f"outputs.{name}.parameters.classification", None, "is not supported")
        as_bytes[name] = _flag(f"outputs.{name}.parameters.binary_data", parameters.get("binary_data", default))
    return as_bytes


def seconds(header: dict[str, Any]) -> float:
    """The request's `timeout`, given in microseconds, as seconds; infinite without. Raises ProtocolError."""
    value = _parameters("body", header).get("timeout")
    if value is None:
        return math.inf
    if not _is_count(value) or not value:
        raise ProtocolError("parameters.timeout", value, "must be a number of microseconds above 0")
    return value / 1e6


def write(
    header: dict[str, Any], key: Literal["inputs", "outputs"], arrays: Arrays, binary: Collection[str]
) -> tuple[bytes, int | None]:
    """A message with `arrays`, those named in `binary` as bytes, and the length of its JSON; None without bytes.

    Numbers are converted to JSON row by row, so that other threads can run in between.
    """
    described, parts = [], []
    for name, array in arrays.items():
        datatype = _DATATYPES[str(array.dtype)]
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if name in binary:
            parts.append(np.ascontiguousarray(array, _DTYPES[datatype]).tobytes())
            described.append(json.dumps(entry | {"parameters": {"binary_data_size": len(parts[-1])}}))
        else:
            rows = ",".join(json.dumps(row.ravel().tolist(), allow_nan=False)[1:-1] for row in array)
            described.append(f'{json.dumps(entry)[:-1]}, "data": [{rows}]}}')
    beginning = json.dumps(header)[:-1] + (", " if header else "")
    text = f'{beginning}"{key}": [{", ".join(described)}]}}'.encode()
    return b"".join([text, *parts]), len(text) if parts else None


def _listed(header: dict[str, Any], key: str, tensors: list[Tensor]) -> dict[str, dict[str, Any]]:
    """The descriptions in `header[key]` by name: some of `tensors`, none of them twice."""
    entries, known = header.get(key), [tensor.name for tensor in tensors]
    if not isinstance(entries, list) or not entries:
        raise ProtocolError(key, None, f"must be a list of tensors; there are {', '.join(known)}")
    listed: dict[str, dict[str, Any]] = {}
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if name not in known:
            raise ProtocolError(f"{key}.{index}.name", name, f"must be one of {', '.join(known)}")
        if name in listed:
            raise ProtocolError(f"{key}.{index}.name", name, "stands twice")
        listed[name] = entry
    return listed


def _parameters(field: str, described: dict[str, Any]) -> dict[str, Any]:
    parameters = described.get("parameters")
    if parameters is None:  # KServe writes null
        return {}
    if not isinstance(parameters, dict):
        raise ProtocolError(f"{field}.parameters", None, "must be a JSON object")
    if shared := [name for name in parameters if name.startswith("shared_memory_")]:
        raise ProtocolError(f"{field}.parameters.{shared[0][:80]}", None, "shared memory is not supported")
    return parameters


def _expected(field: str, described: dict[str, Any], tensor: Tensor) -> tuple[np.dtype, list[int]]:
    """The dtype and the shape in a description. Raises ProtocolError if they are not the tensor's."""
    datatype, shape = _DATATYPES[tensor.dtype], described.get("shape")
    if described.get("datatype") != datatype:
        raise ProtocolError(f"{field}.datatype", described.get("datatype"), f"must be {datatype}")
    if not isinstance(shape, list) or not all(map(_is_count, shape)) or shape[1:] != tensor.shape[1:] or not shape[0]:
        inner = ", ".join(map(str, tensor.shape[1:]))
        raise ProtocolError(f"{field}.shape", shape, f"must be [N, {inner}] with N at least 1")
    return _DTYPES[datatype], shape


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _flag(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ProtocolError(field, value, "must be true or false")
    return value


def _from_bytes(
    field: str, size: Any, binary: memoryview, dtype: np.dtype, shape: list[int]
) -> tuple[np.ndarray, memoryview]:
    """The array at the start of `binary`, and the rest of `binary`."""
    expected = math.prod(shape) * dtype.itemsize
    if size != expected or not _is_count(size):
        rule = f"must be {expected}, the bytes of a tensor of this shape"
        raise ProtocolError(f"{field}.parameters.binary_data_size", size, rule)
    if size > len(binary):
        raise ProtocolError(field, None, f"has {size} bytes; {len(binary)} are left in the body")
    return np.frombuffer(binary[:size], dtype).reshape(shape), binary[size:]


def _from_json(field: str, data: Any, dtype: np.dtype, shape: list[int]) -> np.ndarray:
    """An array from numbers in row-major order, nested or flat; null becomes NaN in float tensors."""
    if not isinstance(data, list):
        raise ProtocolError(field, None, "must be a list of numbers, or bytes after the JSON with binary_data_size")
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError) as exc:
        raise ProtocolError(field, None, "must be numbers in lists of equal lengths") from exc
    count = math.prod(shape)
    if values.size != count or (values.ndim > 1 and list(values.shape) != shape):
        raise ProtocolError(field, list(values.shape), f"must have {count} numbers, flat or nested as the shape says")
    if values.dtype == object and all(value is None or type(value) in (int, float) for value in values.flat):
        with suppress(OverflowError):  # then it stays an object array, which is refused below
            values = values.astype(np.float64)
    whole = dtype.kind != "u" or (values.dtype.kind in "iu" and ((values >= 0) & (values <= 255)).all())
    if values.dtype.kind not in "iuf" or not whole:
        rule = "must be whole numbers from 0 to 255" if dtype.kind == "u" else "must be numbers"
        raise ProtocolError(field, None, rule)
    with np.errstate(over="ignore"):  # values beyond the range become infinite
        return values.astype(dtype).reshape(shape)
