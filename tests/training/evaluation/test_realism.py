"""Whether edits lead towards real pictures."""

from __future__ import annotations

import numpy as np
import pytest

from training import metrics
from training.evaluation import realism, tally
from training.evaluation.realism import Ratio, Real


def world(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of pictures, and what they show: men are far from women, and glasses move both."""
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((count, 2)) < 0.5, 1, -1)
    features = rng.standard_normal((count, 6)) + labels @ np.array([[0, 0.8, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]])
    return features, labels


def test_the_ratio_is_taken_within_a_perceived_gender():
    names = ["Eyeglasses", "Male"]
    features, labels = world(600, 0)
    real = Real(features, labels, names)
    untouched, shown = world(160, 1)
    without = shown[:, 0] < 0
    untouched, shown = untouched[without], shown[without]
    edited = untouched + np.array([0, 1.2, 0, 0, 0, 0])  # three quarters of the way
    found = realism.ratio(real, 0, tally.ADDED, edited, untouched, shown)
    men = shown[:, 1] > 0
    distances = {}
    for gender in (True, False):
        target = features[(labels[:, 0] > 0) & ((labels[:, 1] > 0) == gender)][: realism.REFERENCES]
        rows = men == gender
        distances[gender] = [metrics.kernel_distance(x[rows], target) for x in (edited, untouched)]
    expected = [np.average([distances[g][i] for g in (True, False)], weights=[men.sum(), (~men).sum()]) for i in (0, 1)]
    assert (found.edited, found.untouched) == pytest.approx(tuple(expected))
    assert found.value < 0.5
    assert not found.spoils
    assert found.pictures == len(shown)


def test_an_edit_that_leads_away_spoils_beyond_the_noise():
    names = ["Eyeglasses", "Male"]
    real = Real(*world(600, 0), names)
    untouched, shown = world(160, 1)
    rows = shown[:, 0] < 0
    moved = untouched[rows] - np.array([0, 2, 0, 0, 0, 0])
    away = realism.ratio(real, 0, tally.ADDED, moved, untouched[rows], shown[rows])
    assert away.value > 2
    assert away.spoils
    still = realism.ratio(real, 0, tally.ADDED, untouched[rows], untouched[rows], shown[rows])
    assert still.value == 1
    assert not still.spoils


def test_a_gender_without_enough_pictures_is_left_out_and_nothing_is_said_of_too_few():
    names = ["Mustache", "Male"]
    features, labels = world(600, 0)
    labels[labels[:, 1] < 0, 0] = -1  # no woman has one
    real = Real(features, labels, names)
    untouched, shown = world(200, 1)
    shown[:, 0] = -1
    found = realism.ratio(real, 0, tally.ADDED, untouched, untouched, shown)
    assert found.pictures == (shown[:, 1] > 0).sum()
    few = realism.ratio(real, 0, tally.ADDED, untouched[:5], untouched[:5], shown[:5])
    assert few is None


def test_splits_of_real_pictures_tell_the_noise():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((400, 8))
    noise = realism.split_noise(features, 60)
    drawn = [metrics.kernel_distance(rng.standard_normal((60, 8)), rng.standard_normal((340, 8))) for _ in range(60)]
    assert noise == pytest.approx(np.std(drawn), rel=0.35)
    assert realism.split_noise(features, 20) > noise


def test_sums_weigh_attributes_by_their_distances():
    ratios = [Ratio(1, 10, 0.3, 20, 100), Ratio(3, 2, 0.4, 20, 100)]
    assert realism.ratio_of_sums(ratios) == (pytest.approx(4 / 12), pytest.approx(0.5 / 12))
    assert np.isnan(realism.ratio_of_sums([])[0])
