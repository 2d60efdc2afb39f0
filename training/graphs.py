"""Encoder and decoder as their users see them, from pixels to pixels: of a bundle, or straight from a torch model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from service.bundle import Bundle
from service.runtime import require_onnxruntime
from training.model import ConditionalVAE
from training.pixels import to_model, to_pixels

_BATCH = 128


class Graphs(Protocol):
    """What is evaluated: `encode` and `decode` with the graphs' own signatures, on arrays of any length."""

    def encode(self, pixels: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, S, S, 3] and f32 [N, K] (NaN unknown) to mean f32 [N, Z] and attributes f32 [N, K]."""

    def decode(self, latent: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        """f32 [N, Z] and f32 [N, K] to uint8 [N, S, S, 3]."""


class BundleGraphs:
    """The exported graphs of a bundle on ONNX Runtime: the thing that ships."""

    def __init__(self, bundle: Bundle) -> None:
        onnxruntime = require_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(bundle.path(name)), options, providers=["CPUExecutionProvider"])
            for name in ("encoder.onnx", "decoder.onnx")
        )

    def encode(self, pixels: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = [
            self._encoder.run(
                ["mean", "attribute_estimates"],
                {"image": np.ascontiguousarray(pixels[rows]), "attributes": attributes[rows].astype(np.float32)},
            )
            for rows in _batches(len(pixels))
        ]
        mean, estimates = zip(*parts, strict=True)
        return np.concatenate(mean), np.concatenate(estimates)

    def decode(self, latent: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        parts = [
            self._decoder.run(
                ["image"],
                {"latent": latent[rows].astype(np.float32), "attributes": attributes[rows].astype(np.float32)},
            )[0]
            for rows in _batches(len(latent))
        ]
        return np.concatenate(parts)


class TorchGraphs:
    """The graphs' behaviour straight from a torch model, so that calibration needs no export."""

    def __init__(self, model: ConditionalVAE) -> None:
        self.model = model.eval()
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def posterior(
        self, pixels: np.ndarray, attributes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """mean f32 [N, Z], log_variance f32 [N, Z] and attributes f32 [N, K] of uint8 [N, S, S, 3].

        `attributes` f32 [N, K] with NaN where unknown; without them all are unknown.
        """
        if attributes is None:
            attributes = np.full((len(pixels), len(self.model.gain)), np.nan)
        parts = []
        for rows in _batches(len(pixels)):
            known = torch.from_numpy(attributes[rows].astype(np.float32)).to(self.device)
            found = self.model.encode(to_model(pixels[rows], self.device), known)
            parts.append([t.float().cpu().numpy() for t in (found.mean, found.log_variance, found.attributes)])
        mean, log_variance, shown = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, log_variance, shown

    @torch.no_grad()
    def whole_mean(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean f32 [N, Z] with what the prior takes off it for the attributes f32 [N, K], which come second."""
        mean, _, shown = self.posterior(pixels)
        attributes = torch.from_numpy(shown)
        return torch.from_numpy(mean) + self.model.prior(attributes.to(self.device)).float().cpu(), attributes

    def encode(self, pixels: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, _, shown = self.posterior(pixels, attributes)
        return mean, shown

    @torch.no_grad()
    def decode(self, latent: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        parts = []
        for rows in _batches(len(latent)):
            pair = (torch.from_numpy(a[rows].astype(np.float32)) for a in (latent, attributes))
            parts.append(to_pixels(self.model.decode(*(t.to(self.device) for t in pair))))
        return np.concatenate(parts)


def encode_unknown(graphs: Graphs, pixels: np.ndarray, attributes: int) -> tuple[np.ndarray, np.ndarray]:
    """Encode pictures that come without attributes."""
    return graphs.encode(pixels, np.full((len(pixels), attributes), np.nan, dtype=np.float32))


def _batches(count: int) -> list[slice]:
    return [slice(start, start + _BATCH) for start in range(0, count, _BATCH)]
