"""After training: what strength 1 does to each attribute, and to those nobody asked to change.

The conditional prior moves the latent by W M (a' - a). Training leaves M at the identity, where asking for an open
mouth also brings a smile, because on photographs the two come together. Calibration measures how a classifier's logits
respond to each request and to each direction of the latent, and solves for the M that moves the asked attribute as far
as wanted and the others as little as possible. Encoder and decoder share M, so reconstructions do not change.

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

GAINS = (0.35, 0.5, 0.65, 0.8, 1.0, 1.25, 1.5, 2.0)
_STEP = 1.0  # of attributes, when a latent direction's effect is measured
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


def request_response(graphs: TorchGraphs, classifier: Judge, plain: Plain) -> np.ndarray:
    """Logits moved for each unit of a request, f64 [K seen, K asked]: each attribute inverted alone."""
    before = plain.unedited(classifier)
    columns = []
    for attribute in range(plain.shown.shape[1]):
        asked = plain.shown.copy()
        asked[:, attribute] = -plain.faces.labels[:, attribute]
        moved = plain.logits(classifier, graphs.decode(plain.latent, asked)) - before
        unit = (asked - plain.shown)[:, [attribute]]
        unit = np.where(np.abs(unit) < 0.2, np.sign(unit) * 0.2 + (unit == 0) * 0.2, unit)
        columns.append(_balanced_mean(moved / unit, plain.faces.labels[:, attribute] > 0))
    return np.stack(columns, axis=1)


def latent_response(graphs: TorchGraphs, classifier: Judge, plain: Plain) -> np.ndarray:
    """Logits moved for each unit step along each column of W, f64 [K seen, K columns], attributes told as before."""
    before = plain.unedited(classifier)
    directions = graphs.model.prior.weight.detach().cpu().numpy().T  # [K, Z]
    columns = []
    for attribute, direction in enumerate(directions):
        sign = -plain.faces.labels[:, [attribute]].astype(np.float32)
        moved_latent = plain.latent + _STEP * sign * direction
        moved = plain.logits(classifier, graphs.decode(moved_latent, plain.shown)) - before
        columns.append(_balanced_mean(moved * sign / _STEP, plain.faces.labels[:, attribute] > 0))
    return np.stack(columns, axis=1)


def solve_mixing(
    mixing: np.ndarray, response: np.ndarray, latent: np.ndarray, wanted: np.ndarray, ignore: np.ndarray, ridge: float
) -> np.ndarray:
    """The next mixing matrix, f64 [K, K], by regularised least squares, column by column.

    `response` [K seen, K asked] is measured at `mixing`, `latent` [K seen, K columns] is `latent_response`, `wanted`
    [K] is how far each attribute should move its own logit, and `ignore` bool [K, K] marks in row k whose side effects
    do not count when attribute k is asked for. `ridge` weighs the change of the matrix, in units of the mean squared
    response.
    """
    count = len(mixing)
    result = mixing.copy()
    penalty = ridge * np.square(latent).mean() * count * np.eye(count)
    for asked in range(count):
        weight = np.where(ignore[asked], 0.0, 1.0)
        weight[asked] = 4.0  # the request itself comes first
        missing = -response[:, asked]
        missing[asked] += wanted[asked]
        weighted = latent * weight[:, None]
        step = np.linalg.solve(weighted.T @ weighted + penalty, weighted.T @ (weight * missing))
        result[:, asked] += step
    return result


def calibrate(
    model: ConditionalVAE, classifier: Judge, names: list[str], faces: Faces, budget: float, rounds: int, ridge: float
) -> dict[str, float]:
    """Set `model.mixing`: `rounds` of `solve_mixing` against side effects, then one gain for each attribute.

    The gains are those with the highest edit accuracy whose mean extra error on the other attributes stays within
    `budget`. Returns, by name, how far each request moves the latent along its own direction.
    """
    graphs = TorchGraphs(model)
    ignore = exclusion_matrix(names).numpy()
    plain = Plain.of(graphs, faces)
    if rounds:
        directions = latent_response(graphs, classifier, plain)
        before = plain.unedited(classifier)
    for _ in range(rounds):
        response = request_response(graphs, classifier, plain)
        wanted = np.array([_logits_to_cross(before, plain, k) for k in range(len(names))])
        mixing = solve_mixing(model.mixing.double().cpu().numpy(), response, directions, wanted, ignore, ridge)
        model.mixing.copy_(torch.from_numpy(mixing))
        plain = Plain.of(graphs, faces)  # the residual latent depends on the mixing
    mixing = model.mixing.clone()
    tallies = []
    for gain in GAINS:
        model.mixing.copy_(gain * mixing)
        tallies.append(edit_quality(graphs, classifier, names, faces))
    accuracy, side_effects = (np.stack(part) for part in zip(*tallies, strict=True))  # 2 x [G, K]
    gains = torch.tensor([GAINS[index] for index in allocate(accuracy, side_effects, budget)], dtype=mixing.dtype)
    model.mixing.copy_(mixing * gains)
    return {name: round(float(model.mixing[k, k]), 4) for k, name in enumerate(names)}


def _logits_to_cross(before: np.ndarray, plain: Plain, attribute: int) -> float:
    """How far an attribute's logit must move for each unit of a request to end where the opposite now is."""
    present = plain.faces.labels[:, attribute] > 0
    logits = 2 * np.abs(before[:, :, attribute])
    units = np.abs(plain.shown[None, :, attribute] + plain.faces.labels[None, :, attribute])
    return float(_balanced_mean(logits, present) / _balanced_mean(units, present))


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
