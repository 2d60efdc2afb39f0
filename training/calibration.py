"""After training: how far strength 1 moves the latent for each attribute.

The conditional prior moves the latent by W g (a' - a). A larger gain g shows the asked attribute on more faces and
brings along more of what nobody asked for, at an exchange rate that differs from attribute to attribute. Calibration
measures both on a grid of gains and spends a budget of side effects where it buys most. Encoder and decoder share the
gains, so reconstructions do not change.

The classifier is one of its own and looks at training pictures; the judge that evaluates the result takes no part.
"""

from __future__ import annotations

import numpy as np
import torch

from training import erasure
from training.evaluation import Faces, encode_unknown, judge_edits
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


def erase(model: ConditionalVAE, pixels: np.ndarray) -> None:
    """Erase once more, on every training picture uint8 [N, S, S, 3]; gains return to 1."""
    model.gain.fill_(1.0)
    unknown = np.full((len(pixels), len(model.gain)), np.nan, dtype=np.float32)
    latent, _, shown = TorchGraphs(model).posterior(pixels, unknown)
    erasure.move(model, *erasure.regress(torch.from_numpy(latent), torch.from_numpy(shown)))


def calibrate(
    model: ConditionalVAE, classifier: Judge, names: list[str], faces: Faces, budget: float
) -> dict[str, float]:
    """Set `model.gain` to the gains with the highest edit accuracy within `budget`, and return them by name.

    The budget is the mean extra error on the other attributes, as a share of 1.
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
    latent, shown = encode_unknown(graphs, faces.pixels, len(names))
    found = judge_edits(graphs, classifier, names, faces, latent, shown, graphs.decode(latent, shown))["edit"]

    def both_kinds(measure: str) -> np.ndarray:
        values = [list(found[kind][measure]["attributes"].values()) for kind in ("raw", "residual")]
        return np.nan_to_num(np.mean(values, axis=0))  # NaN where there is nothing to measure, as with one attribute

    return both_kinds("balanced_accuracy"), both_kinds("side_effects")


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
