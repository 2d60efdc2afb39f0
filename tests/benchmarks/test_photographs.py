"""Faces laid on photographs, and taken back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="faces are judged with torch")
pytest.importorskip("scipy")

from benchmarks.photographs import aligned, lay, seam

SIZE = (178, 218)


@pytest.fixture
def picture() -> Image.Image:
    small = np.random.default_rng(2).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC)


@pytest.mark.parametrize("seed", range(5))
def test_an_aligned_picture_comes_back_from_its_photograph(picture: Image.Image, seed: int):
    scene = lay(picture, np.random.default_rng(seed))
    back = aligned(scene, scene.pixels, SIZE)
    assert back.shape == (218, 178, 3)
    inner = slice(4, -4)  # its edge mixes with the background
    difference = back[inner, inner].astype(float) - np.asarray(picture)[inner, inner]
    assert np.abs(difference).mean() < 2


def test_a_seam_is_where_a_change_ends():
    before = np.random.default_rng(0).integers(100, 140, (60, 60, 3)).astype(np.uint8)
    edge, faded = before.copy(), before.copy()
    edge[20:40, 20:40] += 80
    faded[20:40, 20:40] += 1
    assert seam(before, edge) > 2
    assert seam(before, faded) == pytest.approx(1, abs=0.05)
    assert np.isnan(seam(before, before))
