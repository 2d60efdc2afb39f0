"""What every peer serves: the bundle's two graphs on plain onnxruntime, and Pillow around them.

Peers run in environments of their own, so nothing here comes from the project.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


class Faces:
    """Batches of both workloads, from requests to PNG. `threads` of each session; 0 lets onnxruntime choose."""

    def __init__(self, bundle: Path, threads: int = 0) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        self._names = [attribute["name"] for attribute in manifest["attributes"]]
        self._frame, self._latent_size = manifest["frame"], manifest["latent_size"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(bundle / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder")
        )

    def generate(self, items: list[tuple[dict[str, float], int]]) -> list[bytes]:
        """A face for each pair of attributes and seed."""
        latent = [np.random.default_rng(seed).standard_normal(self._latent_size) for _, seed in items]
        return self._draw(np.stack(latent), self._vectors([attributes for attributes, _ in items], -1.0))

    def edit(self, items: list[tuple[bytes, dict[str, float]]]) -> list[bytes]:
        """The edited face for each pair of an aligned JPEG and attributes."""
        pictures = np.stack([self._face(data) for data, _ in items])
        target = self._vectors([attributes for _, attributes in items], np.nan)
        inputs = {"image": pictures, "attributes": np.full_like(target, np.nan)}
        latent, estimates = self._encoder.run(["mean", "attribute_estimates"], inputs)
        return self._draw(latent, np.where(np.isnan(target), estimates, target))

    def _face(self, data: bytes) -> np.ndarray:
        size = self._frame["image_size"]
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=self._frame["crop_box"]))

    def _vectors(self, attributes: list[dict[str, float]], empty: float) -> np.ndarray:
        return np.array([[each.get(name, empty) for name in self._names] for each in attributes], dtype=np.float32)

    def _draw(self, latent: np.ndarray, attributes: np.ndarray) -> list[bytes]:
        inputs = {"latent": latent.astype(np.float32), "attributes": attributes.astype(np.float32)}
        return [_png(face) for face in self._decoder.run(["image"], inputs)[0]]


def _png(face: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(face).save(buffer, "PNG")
    return buffer.getvalue()
