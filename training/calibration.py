"""After training: how far strength 1 moves the latent for each attribute.

The conditional prior moves the latent by W g (a' - a). A larger gain g shows the asked attribute on more faces and
brings along more of what nobody asked for, at an exchange rate that differs from attribute to attribute. Calibration
measures both on a grid of gains and spends a budget of side effects where it buys most. Encoder and decoder share the
gains, so reconstructions do not change.

The classifier is one of its own and looks at training pictures; the judge that evaluates the result takes no part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from training.attributes import exclusion_matrix
from training.evaluation import Faces, encode_unknown, inverted, residual_edit
from training.judge import Judge
from training.model import ConditionalVAE
from training.trainer import to_model, to_pixels

GAINS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.125, 1.25)
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


@dataclass(frozen=True)
class Plain:
    """Faces as the model has them before any edit: what every measurement starts from."""

    faces: Faces
    latent: np.ndarray  # f32 [N, Z]
    shown: np.ndarray  # f32 [N, K]
    reconstruction: np.ndarray  # uint8 [N, S, S, 3]

    @staticmethod
    def of(graphs: TorchGraphs, faces: Faces) -> Plain:
        latent, shown = encode_unknown(graphs, faces.pixels, faces.labels.shape[1])
        return Plain(faces, latent, shown, graphs.decode(latent, shown))

    def logits(self, classifier: Judge, edited: np.ndarray) -> np.ndarray:
        """The classifier's logits on an edit, f32 [2, N, K]: on the raw decode and on the residual edit."""
        residual = residual_edit(self.faces.pixels, self.reconstruction, edited)
        return np.stack([classifier.look(pictures)[0] for pictures in (edited, residual)])

    def unedited(self, classifier: Judge) -> np.ndarray:
        """As `logits`, with nothing edited."""
        return self.logits(classifier, self.reconstruction)


def _balanced_mean(values: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Mean of [2, N, ...] over kinds and pictures, with absent and present pictures weighing the same."""
    parts = [values[:, rows].mean(axis=(0, 1)) for rows in (present, ~present) if rows.any()]
    return np.mean(parts, axis=0)


def calibrate(
    model: ConditionalVAE, classifier: Judge, names: list[str], faces: Faces, budget: float
) -> dict[str, float]:
    """Set `model.gain` to the gains with the highest edit accuracy whose mean extra error on the other attributes stays
    within `budget`. Returns them by name.
    """
    graphs, tallies = TorchGraphs(model), []
    for gain in GAINS:
        model.gain.fill_(gain)
        tallies.append(edit_quality(graphs, classifier, names, faces))
    accuracy, side_effects = (np.stack(part) for part in zip(*tallies, strict=True))  # 2 x [G, K]
    chosen = [GAINS[index] for index in allocate(accuracy, side_effects, budget)]
    model.gain.copy_(torch.tensor(chosen))
    return dict(zip(names, chosen, strict=True))


def edit_quality(
    graphs: TorchGraphs, classifier: Judge, names: list[str], faces: Faces
) -> tuple[np.ndarray, np.ndarray]:
    """Edit accuracy f64 [K] and extra error on the other attributes f64 [K], by the classifier.

    Adding and removing count equally, and so do the raw decode and the residual edit.
    """
    plain = Plain.of(graphs, faces)
    labels = faces.labels > 0
    plain_error = (plain.unedited(classifier) > 0) != labels  # [2, N, K]
    exclusion = exclusion_matrix(names).numpy()
    accuracy, side_effects = np.zeros(len(names)), np.zeros(len(names))
    for attribute in range(len(names)):
        edited = graphs.decode(plain.latent, inverted(plain.shown, faces.labels, attribute, names))
        error = (plain.logits(classifier, edited) > 0) != labels
        accuracy[attribute] = _balanced_mean(error[:, :, attribute].astype(float), labels[:, attribute])
        others = ~exclusion[attribute]
        others[attribute] = False
        if others.any():
            side_effects[attribute] = error[:, :, others].mean() - plain_error[:, :, others].mean()
    return accuracy, side_effects


def allocate(accuracy: np.ndarray, side_effects: np.ndarray, budget: float) -> np.ndarray:
    """Row indices [K] into two tables f64 [G, K]: the most mean accuracy for a mean side effect of at most `budget`.

    Solved by its Lagrangian: one price of side effects for all attributes, raised until the budget holds. If no price
    does, the rows with the least side effects are chosen.
    """
    for price in np.concatenate([[0.0], np.geomspace(0.05, 500, 200)]):
        rows = (accuracy - price * side_effects).argmax(axis=0)
        if side_effects[rows, np.arange(rows.size)].mean() <= budget:
            return rows
    return side_effects.argmin(axis=0)
