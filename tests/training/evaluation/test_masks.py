"""An editor's masks in the picture's coordinates."""

from __future__ import annotations

import numpy as np

from training.evaluation import masks


def test_a_mask_is_spread_over_its_box_and_is_nothing_elsewhere():
    mask = np.zeros((4, 4), dtype=np.float32)
    mask[:, 2:] = 1
    found = masks.spread(mask, (10, 20, 18, 28), height=40, width=30)
    assert found.shape == (40, 30)
    assert np.flatnonzero(found.any(1)).tolist() == list(range(20, 28))
    assert found[24].nonzero()[0][0] == 13
    assert found[24, 14:18].tolist() == [0.75, 1, 1, 1]
    assert found[24, 18:].max() == found[24, :13].max() == 0
