"""After training: how far strength 1 moves each attribute, and the prior to sample from.

The gain of an attribute scales its step through the conditional prior, in encoder and decoder alike, so that
reconstructions do not change. It is chosen with a classifier of its own, on training pictures; the judge that
evaluates the result takes no part in it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from training.evaluation import Faces, encode_unknown, inverted, residual_edit
from training.judge import Judge
from training.model import ConditionalVAE
from training.trainer import to_model, to_pixels

GAINS = (0.6, 0.8, 1.0, 1.25, 1.5, 1.8, 2.2, 2.6, 3.0)
_BATCH = 128


class TorchGraphs:
    """The graphs' behaviour straight from a torch model, so that calibration needs no export."""

    def __init__(self, model: ConditionalVAE) -> None:
        self.model = model.eval()
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def posterior(self, pixels: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """mean f32 [N, Z], log_variance f32 [N, Z] and attributes f32 [N, K] of uint8 [N, S, S, 3]."""
        parts = []
        for start in range(0, len(pixels), _BATCH):
            rows = slice(start, start + _BATCH)
            known = torch.from_numpy(attributes[rows].astype(np.float32)).to(self.device)
            found = self.model.encode(to_model(pixels[rows], self.device), known)
            parts.append([t.float().cpu().numpy() for t in (found.mean, found.log_variance, found.attributes)])
        mean, log_variance, shown = (np.concatenate(part) for part in zip(*parts, strict=True))
        return mean, log_variance, shown

    def encode(self, pixels: np.ndarray, attributes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, _, shown = self.posterior(pixels, attributes)
        return mean, shown

    @torch.no_grad()
    def decode(self, latent: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(latent), _BATCH):
            pair = (torch.from_numpy(a[start : start + _BATCH].astype(np.float32)) for a in (latent, attributes))
            parts.append(to_pixels(self.model.decode(*(t.to(self.device) for t in pair))))
        return np.concatenate(parts)


def edit_response(model: ConditionalVAE, classifier: Judge, names: list[str], faces: Faces) -> np.ndarray:
    """The classifier's median logit in the asked direction after inverting each attribute, f64 [K].

    Adding and removing count equally, and so do the raw decode and the residual edit: the mean of four medians.
    """
    graphs = TorchGraphs(model)
    latent, shown = encode_unknown(graphs, faces.pixels, len(names))
    reconstruction = graphs.decode(latent, shown)
    response = np.zeros(len(names))
    for attribute in range(len(names)):
        edited = graphs.decode(latent, inverted(shown, faces.labels, attribute, names))
        present = faces.labels[:, attribute] > 0
        medians = []
        for pictures in (edited, residual_edit(faces.pixels, reconstruction, edited)):
            logits = classifier.look(pictures)[0][:, attribute]
            medians += [np.median(sign * logits[rows]) for sign, rows in ((1, ~present), (-1, present)) if rows.any()]
        response[attribute] = np.mean(medians)
    return response


def calibrate_gains(
    model: ConditionalVAE,
    classifier: Judge,
    names: list[str],
    faces: Faces,
    target: float,
    gains: Sequence[float] = GAINS,
) -> dict[str, float]:
    """Set `model.gain` to the smallest gain at which each attribute's response reaches `target` (a logit).

    An attribute that never reaches it gets the gain with its best response. Returns the gains by name.
    """
    responses = []
    for gain in gains:
        model.gain.fill_(gain)
        responses.append(edit_response(model, classifier, names, faces))
    table = np.stack(responses)  # [G, K]
    reached = table >= target
    chosen = np.where(reached.any(0), reached.argmax(0), table.argmax(0))
    values = [gains[index] for index in chosen]
    model.gain.copy_(torch.tensor(values))
    return dict(zip(names, values, strict=True))
