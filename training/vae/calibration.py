"""After training: how far strength 1 moves the latent for each attribute.

The conditional prior moves the latent by W g (a' - a). A larger gain g shows the requested attribute on more faces and
brings along more of what nobody requested, at an exchange rate that differs from attribute to attribute. Calibration
measures both on a grid of gains and spends a budget of side effects where it buys most. Encoder and decoder share the
gains, so reconstructions do not change.

The classifier is one of its own and looks at training pictures; the judge that evaluates the result takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from training.attributes import Groups
from training.data.dataset import Faces
from training.evaluation import judge_edits
from training.graphs import TorchGraphs, encode_unknown
from training.judge import Judge
from training.vae import erasure
from training.vae.model import ConditionalVAE

GAINS = (0.2, 0.35, 0.5, 0.65, 0.8, 1.0, 1.125, 1.25)


def erase(model: ConditionalVAE, pixels: np.ndarray, ridge: float) -> None:
    """Erase attributes from the latents of pictures uint8 [N, S, S, 3] (training.vae.erasure); gains return to 1."""
    model.gain.fill_(1.0)
    erasure.replace_prior(model, *erasure.regress(*TorchGraphs(model).whole_mean(pixels), ridge))


def calibrate(
    model: ConditionalVAE,
    classifier: Judge,
    names: list[str],
    faces: Faces,
    budget: float,
    gains: Sequence[float] = GAINS,
    groups: Groups = None,
) -> dict[str, float]:
    """Set `model.gain` to those `gains` with the highest edit accuracy within `budget`, and return them by name.

    The budget is the mean extra error on the other attributes, as a share of 1.
    """
    graphs, tallies = TorchGraphs(model), []
    for gain in tqdm(gains, desc="gains", unit="gain"):
        model.gain.fill_(gain)
        tallies.append(edit_quality(graphs, classifier, names, faces, groups))
    accuracy, side_effects = (np.stack(part) for part in zip(*tallies, strict=True))  # 2 x [G, K]
    chosen = [gains[index] for index in allocate(accuracy, side_effects, budget)]
    model.gain.copy_(torch.tensor(chosen))
    return dict(zip(names, chosen, strict=True))


def edit_quality(
    graphs: TorchGraphs, classifier: Judge, names: list[str], faces: Faces, groups: Groups = None
) -> tuple[np.ndarray, np.ndarray]:
    """Edit accuracy f64 [K] and extra error on the other attributes f64 [K], by the classifier.

    Adding and removing count equally, and so do the raw decode and the residual edit.
    """
    latent, current = encode_unknown(graphs, faces.pixels, len(names))
    reconstruction = graphs.decode(latent, current)
    found = judge_edits(graphs, classifier, names, faces, latent, current, reconstruction, groups)["edit"]

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
