"""Where pictures change, and what detail is left elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from training.evaluation import locality
from training.evaluation.locality import Ellipse


def test_the_ellipse_has_the_axes_it_says():
    outside = Ellipse(centre=(50, 60), semi_axes=(20, 30)).outside(120, 100)
    columns, rows = np.flatnonzero(~outside[60]), np.flatnonzero(~outside[:, 50])
    assert (columns[0], columns[-1]) == (30, 69)
    assert (rows[0], rows[-1]) == (30, 89)
    assert (~outside).sum() == pytest.approx(np.pi * 20 * 30, rel=0.01)


def test_changes_count_outside_only():
    ellipse = Ellipse(centre=(10, 10), semi_axes=(5, 5))
    before = np.full((2, 20, 20, 3), 100, dtype=np.uint8)
    after = before.copy()
    after[0, 8:12, 8:12] = 255
    after[1, 0, 0] = [97, 100, 106]
    count = ellipse.outside(20, 20).sum()
    assert locality.change_outside(before, after, ellipse) == pytest.approx([0, 9 / 3 / count])


def test_detail_is_told_where_nothing_was_edited():
    rng = np.random.default_rng(0)
    before = rng.integers(60, 200, (1, 32, 32, 3), dtype=np.uint8)
    after = before.copy()
    after[:, :16] = 128  # edited: the texture there does not count ...
    assert locality.detail_kept(before, after)[0] == pytest.approx(1, abs=0.15)
    unmasked = np.zeros((1, 32, 32), dtype=bool)
    unmasked[:, :14] = True  # ... unless the mask says that it should have stayed
    assert locality.detail_kept(before, after, unmasked)[0] == pytest.approx(0)
    assert np.isnan(locality.detail_kept(np.full_like(before, 9), np.full_like(before, 9))[0])
