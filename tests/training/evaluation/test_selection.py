"""Which pictures are edited."""

from __future__ import annotations

import numpy as np

from training.evaluation import selection


def test_every_value_of_every_attribute_gets_its_pictures():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((400, 4)) < [0.5, 0.3, 0.05, 0.9], 1, -1)
    chosen = selection.choose(labels, each=15)
    for column in range(4):
        for value in (-1, 1):
            there = (labels[:, column] == value).sum()
            assert (chosen[:, column] & (labels[:, column] == value)).sum() == min(15, there)
    # Those of common values are shared: half of the pictures have the first attribute, most the last.
    assert chosen.any(1).sum() < chosen.sum() * 0.7
    assert np.array_equal(chosen, selection.choose(labels, each=15))


def test_nobody_is_chosen_for_showing_something_rare():
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((4000, 2)) < [0.5, 0.02], 1, -1)
    chosen = selection.choose(labels, each=200)
    rare = labels[chosen[:, 0], 1] > 0
    assert rare.mean() < 0.05
