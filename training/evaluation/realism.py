"""How much nearer to real pictures an edit comes, or how much farther away it leads.

The realism ratio of an attribute and a direction is KID(edited, real) / KID(untouched, real), where the real pictures
show the requested value and the untouched ones are those that were edited: below 1 an edit leads towards reality, above
1 it spoils the picture. Both are taken among faces of one perceived gender, so that neither measures who wears a beard.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training import metrics
from training.evaluation.tally import ADDED

REFERENCES = 300  # real pictures, at most, of each attribute, value and perceived gender
_FEWEST_EDITED, _FEWEST_REFERENCES = 12, 40
_SPLITS = 40
GENDER = "Male"


@dataclass(frozen=True)
class Ratio:
    """Of one attribute and direction: the two distances, and the `noise` of one of them, a standard deviation.

    `pictures` were edited, and are compared with as many real ones as `references` says.
    """

    edited: float
    untouched: float
    noise: float
    pictures: int
    references: int

    @property
    def value(self) -> float:
        """The ratio; NaN where the untouched pictures are as near to the real ones as real ones to each other."""
        return self.edited / self.untouched if self.untouched > 0 else float("nan")

    @property
    def spoils(self) -> bool:
        """Whether the edited pictures are farther from real ones than the untouched, by more than twice the noise."""
        return self.edited - self.untouched > 2 * self.noise


def groups(labels: np.ndarray, names: list[str], attribute: int) -> list[np.ndarray]:
    """The rows of `labels` int8 [N, K] among which distances are taken, each bool [N]; all, where nothing tells."""
    if GENDER not in names or names[attribute] == GENDER:
        return [np.ones(len(labels), dtype=bool)]
    column = labels[:, names.index(GENDER)] > 0
    return [column, ~column]


def references(labels: np.ndarray, names: list[str], most: int = REFERENCES) -> np.ndarray:
    """Rows int [M] of the real pictures that distances are taken to: of each value and group the first `most`."""
    needed = np.zeros(len(labels), dtype=bool)
    for attribute in range(len(names)):
        for value in (-1, 1):
            for group in groups(labels, names, attribute):
                needed[np.flatnonzero(group & (labels[:, attribute] == value))[:most]] = True
    return np.flatnonzero(needed)


@dataclass(frozen=True)
class Real:
    """Real pictures: their features f32 [M, F] and labels int8 [M, K], in the order in which they are taken."""

    features: np.ndarray
    labels: np.ndarray
    names: list[str]


def ratio(
    real: Real,
    attribute: int,
    direction: int,
    edited: np.ndarray,
    untouched: np.ndarray,
    labels: np.ndarray,
    most: int = REFERENCES,
) -> Ratio | None:
    """The ratio of an edit, from features f32 [N, F] of pictures that show `labels` int8 [N, K].

    None where there are too few pictures of one perceived gender and also of both together.
    """
    has_target = real.labels[:, attribute] == (1 if direction == ADDED else -1)
    everybody = np.ones(len(labels), dtype=bool), np.ones(len(real.labels), dtype=bool)
    pairs = list(zip(groups(labels, real.names, attribute), groups(real.labels, real.names, attribute), strict=True))
    found = list(_measured(real.features, has_target, pairs, edited, untouched, most))
    if not found:
        found = list(_measured(real.features, has_target, [everybody], edited, untouched, most))
    if not found:
        return None
    share = np.array([one.pictures for one in found]) / sum(one.pictures for one in found)
    return Ratio(
        edited=float(share @ [one.edited for one in found]),
        untouched=float(share @ [one.untouched for one in found]),
        noise=float(np.sqrt(share**2 @ [one.noise**2 for one in found])),
        pictures=sum(one.pictures for one in found),
        references=sum(one.references for one in found),
    )


def _measured(
    features: np.ndarray,
    has_target: np.ndarray,
    pairs: list[tuple[np.ndarray, np.ndarray]],
    edited: np.ndarray,
    untouched: np.ndarray,
    most: int,
) -> Iterator[Ratio]:
    for rows, others in pairs:
        target = features[others & has_target][:most]
        if rows.sum() < _FEWEST_EDITED or len(target) < _FEWEST_REFERENCES:
            continue
        yield Ratio(
            edited=metrics.kernel_distance(edited[rows], target),
            untouched=metrics.kernel_distance(untouched[rows], target),
            noise=split_noise(target, int(rows.sum())),
            pictures=int(rows.sum()),
            references=len(target),
        )


def split_noise(features: np.ndarray, size: int, seed: int = 0) -> float:
    """What a distance between real pictures is off 0, a root mean square over random splits of f32 [M, F].

    Each split holds `size` pictures against the others, or halves where there are fewer than twice as many.
    """
    rng = np.random.default_rng(seed)
    size = min(size, len(features) // 2)
    splits = (rng.permutation(len(features)) for _ in range(_SPLITS))
    found = [metrics.kernel_distance(features[order[:size]], features[order[size:]]) for order in splits]
    return float(np.sqrt(np.square(found).mean()))


def ratio_of_sums(ratios: list[Ratio]) -> tuple[float, float]:
    """The sum of the edited distances over that of the untouched ones, and its noise, a standard deviation."""
    if not ratios:
        return float("nan"), float("nan")
    untouched = sum(one.untouched for one in ratios)
    noise = float(np.sqrt(sum(one.noise**2 for one in ratios)))
    return sum(one.edited for one in ratios) / untouched, noise / untouched
