"""Edits that show, and their side effects, counted from logits."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation import tally


def test_what_adding_ends_by_necessity_is_no_side_effect():
    names = ["Black_Hair", "Blond_Hair", "Mustache", "No_Beard", "Smiling"]
    excused = tally.excused(names)
    assert excused[tally.ADDED, names.index("Mustache")].tolist() == [False, False, False, True, False]
    assert excused[tally.ADDED, names.index("Black_Hair")].tolist() == [False, True, False, False, False]
    assert not excused[tally.ADDED, names.index("No_Beard")].any()
    assert not excused[tally.REMOVED].any()


def test_side_effects_are_the_errors_beyond_those_before_by_direction():
    names = ["Mustache", "No_Beard", "Smiling"]
    labels = np.array([[-1, 1, 1], [-1, 1, 1], [1, -1, -1]], dtype=np.int8)
    plain = np.array([[-1.0, 1, 1], [-1, 1, -1], [1, -1, -1]])  # the second smile is missed already
    edits = tally.EditTally(names, labels, plain, np.zeros(3), tally.excused(names))
    edits.add(0, np.array([[1.0, -1, -1], [1, -1, -1], [-1, 1, -1]]))
    removed, added = edits.by_direction(edits.extra)
    assert added[0] == 0.5  # one smile of two is lost; the beards' absence that ended is excused
    assert removed[0] == 0.5  # a beard that vanished with its moustache is not
    assert edits.matrix[tally.ADDED, 0].tolist() == pytest.approx([np.nan, np.nan, 0.5], nan_ok=True)
    assert edits.matrix[tally.REMOVED, 0].tolist() == pytest.approx([np.nan, 1, 0], nan_ok=True)
    assert edits.done[:, 0].tolist() == [1, 1, 1]


def test_thresholds_decide_what_is_seen():
    labels = np.array([[-1], [-1]], dtype=np.int8)
    edits = tally.EditTally(["Bald"], labels, np.array([[-4.0], [-4.0]]), np.array([-2.0]))
    edits.add(0, np.array([[-1.0]]), rows=np.array([1]))
    assert edits.done[:, 0].tolist() == pytest.approx([np.nan, 1], nan_ok=True)


def test_rare_pictures_weigh_as_much_as_common_ones():
    labels = np.array([[-1], [-1], [-1], [1]], dtype=np.int8)
    edits = tally.EditTally(["Smiling"], labels, unedited_logits=labels.astype(float))
    edits.add(0, np.array([[-1.0], [-1.0], [-1.0], [-1.0]]))  # only the rare one was edited
    found = edits.report()
    assert found["balanced_accuracy"]["mean"] == 0.5
    assert found["accuracy"]["mean"] == 0.25
