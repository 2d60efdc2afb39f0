"""The latents that the learned prior is trained on: posteriors of the training pictures, as they are and mirrored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from training.data.source import Permuted
from training.graphs import TorchGraphs
from training.vae.model import ConditionalVAE

_PASS = 256  # pictures encoded at a time


@dataclass(frozen=True)
class Posteriors:
    """`mean` and `log_variance` f32 [N, Z] before the conditional prior is taken off, the attributes that the encoder
    estimates and those of the labels, both f32 [N, K]."""

    mean: np.ndarray
    log_variance: np.ndarray
    estimates: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.mean)


class PosteriorSource(Permuted):
    """Posteriors in rows 0 to N - 1, for training.data.source.BatchLoader."""

    def __init__(self, posteriors: Posteriors, attributes: list[str]) -> None:
        self.posteriors, self.attributes = posteriors, attributes

    def __len__(self) -> int:
        return len(self.posteriors)

    def frequencies(self) -> np.ndarray:
        return (self.posteriors.labels > 0).mean(0).astype(np.float32)

    def digest(self) -> str:
        digest = hashlib.sha256()
        for values in vars(self.posteriors).values():
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def read(self, rows: np.ndarray) -> Posteriors:
        return Posteriors(*(values[rows] for values in vars(self.posteriors).values()))


def encode(model: ConditionalVAE, pixels: np.ndarray, labels: np.ndarray) -> Posteriors:
    """The posteriors of pictures uint8 [N, S, S, 3] with labels [N, K], then those of the mirrored pictures."""
    graphs, found = TorchGraphs(model), []
    total = 2 * len(pixels)
    with tqdm(total=total, desc="encoding", unit="picture", mininterval=1.0) as bar, torch.no_grad():
        for mirrored in (False, True):
            for start in range(0, len(pixels), _PASS):
                part = pixels[start : start + _PASS]
                part = np.ascontiguousarray(part[:, :, ::-1]) if mirrored else part
                mean, log_variance, estimates = graphs.posterior(part)
                known = torch.from_numpy(estimates).to(graphs.device)
                found.append((mean + model.explained(known).cpu().numpy(), log_variance, estimates))
                bar.update(len(part))
    mean, log_variance, estimates = (np.concatenate(values) for values in zip(*found, strict=True))
    return Posteriors(mean, log_variance, estimates, np.tile(labels.astype(np.float32), (2, 1)))
