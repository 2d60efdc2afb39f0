"""Networks as TensorFlow.js keeps them, inside scripts: a Keras topology, and weights of 8 bits as base64.

`pack` makes one file of the scripts, without running them; `read` gives its layers and weights. The file is a line of
JSON, `layers` and `weights`, and then the weights' bytes in that order.
"""

from __future__ import annotations

import base64
import binascii
import json
import re

import numpy as np

# JSON's own strings stay as they are; the literals of a minified script differ from JSON in these four ways.
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"|!0|!1|void 0|(?<=[{,])[A-Za-z_]\w*(?=:)|(?<![\w.])\.(?=\d)')
_SPELT = {"!0": "true", "!1": "false", "void 0": "null", ".": "0."}
_BASE64 = re.compile(r'"([A-Za-z0-9+/=]{4,})"')


class TfjsError(ValueError):
    """Scripts or a file that hold no readable network; the message says what is wrong."""


def pack(model: bytes, *shards: bytes) -> bytes:
    """One file of a script that exports topology and manifest, and of those that export the weights, in order.

    Raises TfjsError.
    """
    try:
        described = _exported(model.decode("utf-8"))
        layers = described["modelTopology"]["model_config"]["config"]["layers"]
        weights = [entry for group in described["weightsManifest"] for entry in group["weights"]]
        data = b"".join(_bytes(shard.decode("ascii")) for shard in shards)
    except (KeyError, TypeError, ValueError) as exc:
        raise TfjsError(f"the scripts hold no readable network: {exc!r}") from exc
    header = json.dumps({"layers": layers, "weights": weights}, separators=(",", ":"))
    return header.encode() + b"\n" + data


def _exported(script: str) -> dict:
    """The object literal with a topology that a minified script exports."""
    start = script.index("{modelTopology:")
    text = _LITERAL.sub(lambda found: _spelt(found.group()), script[start:])
    return json.JSONDecoder().raw_decode(text)[0]


def _spelt(word: str) -> str:
    return word if word[0] == '"' else _SPELT.get(word, f'"{word}"')


def _bytes(script: str) -> bytes:
    """The longest string of a script."""
    strings = _BASE64.findall(script)
    if not strings:
        raise ValueError("a script without base64")
    try:
        return base64.b64decode(max(strings, key=len), validate=True)
    except binascii.Error as exc:
        raise ValueError(f"not base64: {exc}") from exc


def read(data: bytes) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Keras' layers, in order, and f32 weights by name, as Keras shapes them, of what `pack` made. Raises TfjsError."""
    header, _, rest = data.partition(b"\n")
    try:
        described = json.loads(header)
        return described["layers"], _weights(rest, described["weights"])
    except (KeyError, TypeError, ValueError) as exc:
        raise TfjsError(f"not a packed network: {exc!r}") from exc


def _weights(data: bytes, entries: list[dict]) -> dict[str, np.ndarray]:
    """f32 arrays by name; quantised ones are q * scale + min."""
    found, offset = {}, 0
    for entry in entries:
        quantised = entry.get("quantization")
        kind = np.dtype(quantised["dtype"] if quantised else entry["dtype"])
        count = int(np.prod(entry["shape"], dtype=int))
        end = offset + count * kind.itemsize
        if end > len(data):
            raise ValueError(f"the weights end before {entry['name']}")
        values = np.frombuffer(data[offset:end], kind).astype(np.float32).reshape(entry["shape"])
        if quantised:
            values = values * np.float32(quantised["scale"]) + np.float32(quantised["min"])
        found[entry["name"]] = values
        offset = end
    if offset != len(data):
        raise ValueError(f"{len(data) - offset} bytes of weights belong to no layer")
    return found
