"""Which pictures are edited how: rare attributes on as many pictures as common ones."""

from __future__ import annotations

import numpy as np


def choose(labels: np.ndarray, each: int, seed: int = 0) -> np.ndarray:
    """bool [N, K]: the pictures on which each attribute is inverted.

    From `labels` int8 [N, K] in {-1, +1}: of each attribute's two values `each` pictures, or all where there are fewer.
    They are the first of one random order, by `seed`, so that attributes share pictures and none gets unusual ones:
    whoever is chosen for several rare attributes at once would be harder to edit and farther from everybody else.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = np.zeros(labels.shape, dtype=bool)
    for column in range(labels.shape[1]):
        for value in (-1, 1):
            chosen[order[labels[order, column] == value][:each], column] = True
    return chosen
