"""After training: what strength 1 does to each attribute, and to those that nobody asked to change.

The conditional prior moves the latent by W M (a' - a). Training leaves M at the identity, where asking for an open
mouth also brings a smile, because on photographs the two come together. Calibration measures how a classifier's logits
respond to each request and to each direction of the latent, and solves for the M that moves the asked attribute as far
as wanted and the others as little as possible. Encoder and decoder share M, so reconstructions do not change.

The classifier is one of its own and looks at training pictures; the judge that evaluates the result takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from training.attributes import exclusion_matrix
from training.evaluation import Faces, encode_unknown, inverted, residual_edit
from training.judge import Judge
from training.model import ConditionalVAE
from training.trainer import to_model, to_pixels

GAINS = (0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0, 2.5)
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
    model: ConditionalVAE, classifier: Judge, names: list[str], faces: Faces, target: float, rounds: int, ridge: float
) -> dict[str, float]:
    """Set `model.mixing` so that at strength 1 the classifier's median logit reaches `target` in the asked direction.

    First `rounds` of `solve_mixing` against side effects, then one gain for each attribute. Returns, by name, how far
    each request moves the latent along its own direction.
    """
    graphs = TorchGraphs(model)
    ignore = exclusion_matrix(names).numpy()
    plain = Plain.of(graphs, faces)
    directions = latent_response(graphs, classifier, plain)
    before = plain.unedited(classifier)
    for _ in range(rounds):
        response = request_response(graphs, classifier, plain)
        distance = np.array(
            [
                _balanced_mean(np.abs(before[:, :, k]) + target, faces.labels[:, k] > 0)
                / _balanced_mean(np.abs(plain.shown[None, :, k] + faces.labels[None, :, k]), faces.labels[:, k] > 0)
                for k in range(len(names))
            ]
        )
        mixing = solve_mixing(model.mixing.double().cpu().numpy(), response, directions, distance, ignore, ridge)
        model.mixing.copy_(torch.from_numpy(mixing))
        plain = Plain.of(graphs, faces)  # the residual latent depends on the mixing
    _scale_columns(model, classifier, names, faces, target)
    return {name: round(float(model.mixing[k, k]), 4) for k, name in enumerate(names)}


def edit_medians(graphs: TorchGraphs, classifier: Judge, names: list[str], faces: Faces) -> np.ndarray:
    """The classifier's median logit in the asked direction after inverting each attribute, f64 [K].

    Adding and removing count equally, and so do the raw decode and the residual edit: the mean of four medians.
    """
    plain = Plain.of(graphs, faces)
    response = np.zeros(len(names))
    for attribute in range(len(names)):
        edited = graphs.decode(plain.latent, inverted(plain.shown, faces.labels, attribute, names))
        present = faces.labels[:, attribute] > 0
        medians = []
        for logits in plain.logits(classifier, edited)[:, :, attribute]:
            medians += [np.median(sign * logits[rows]) for sign, rows in ((1, ~present), (-1, present)) if rows.any()]
        response[attribute] = np.mean(medians)
    return response


def _scale_columns(
    model: ConditionalVAE,
    classifier: Judge,
    names: list[str],
    faces: Faces,
    target: float,
    gains: Sequence[float] = GAINS,
) -> None:
    """Scale each column to the smallest gain that reaches `target`, or to the one with the best response."""
    mixing, graphs = model.mixing.clone(), TorchGraphs(model)
    responses = []
    for gain in gains:
        model.mixing.copy_(gain * mixing)
        responses.append(edit_medians(graphs, classifier, names, faces))
    table = np.stack(responses)  # [G, K]
    reached = table >= target
    chosen = np.where(reached.any(0), reached.argmax(0), table.argmax(0))
    model.mixing.copy_(mixing * torch.tensor([gains[index] for index in chosen], dtype=mixing.dtype))
