"""Encoder and decoder as their users see them, from pixels to pixels: of a bundle, or straight from a torch model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from tqdm import tqdm

from service.bundle.loader import Bundle
from service.bundle.manifest import GRAPHS, LEARNED_PRIOR
from service.bundle.sampler import LearnedPrior
from service.inference.session import open_session
from training.pixels import to_model, to_pixels
from training.vae.model import ConditionalVAE

_BATCH = 128
_DELAY = 3  # seconds after which a bar shows progress


class Graphs(Protocol):
    """What is evaluated: `encode` and `decode` with the graphs' own signatures, on arrays of any length.

    `learned` is the learned prior, None where faces are drawn from the Gaussian one.
    """

    learned: LearnedPrior | None

    def encode(self, pixels: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [N, S, S, 3] and f32 [N, K] (NaN unknown) to mean f32 [N, Z] and attributes f32 [N, K]."""

    def decode(self, latent: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        """f32 [N, Z] and f32 [N, K] to uint8 [N, S, S, 3]."""


class BundleGraphs:
    """The exported graphs of a bundle on ONNX Runtime: the thing that ships."""

    def __init__(self, bundle: Bundle) -> None:
        self._encoder, self._decoder = (open_session(bundle.path(name)) for name in GRAPHS)
        self._prior = open_session(bundle.path(LEARNED_PRIOR)) if LEARNED_PRIOR in bundle.manifest.files else None
        self.learned = None if self._prior is None else self._latents

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

    def _latents(self, noise: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        return self._prior.run(["latent"], {"noise": noise, "attributes": attributes.astype(np.float32)})[0]


class TorchGraphs:
    """The graphs' behaviour straight from a torch model, so that calibration needs no export."""

    learned = None

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
        for rows in tqdm(_batches(len(pixels)), desc="encoding", unit="batch", leave=False, delay=_DELAY):
            known = torch.from_numpy(attributes[rows].astype(np.float32)).to(self.device)
            found = self.model.encode(to_model(pixels[rows], self.device), known)
            parts.append([t.float().cpu().numpy() for t in (found.mean, found.log_variance, found.attributes)])
        mean, log_variance, current = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, log_variance, current

    @torch.no_grad()
    def whole_mean(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean f32 [N, Z] with what the prior takes off it for the attributes f32 [N, K], which come second."""
        mean, _, current = self.posterior(pixels)
        attributes = torch.from_numpy(current)
        return torch.from_numpy(mean) + self.model.prior(attributes.to(self.device)).float().cpu(), attributes

    def encode(self, pixels: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, _, current = self.posterior(pixels, attributes)
        return mean, current

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
