"""The mark is found where it is and nowhere else, cannot be seen, and survives what pictures go through."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageFilter

from service.imaging import codecs
from service.provenance import watermark
from service.provenance.watermark import SMALLEST, THRESHOLD

SIZES = [(256, 256), (512, 300), (279, 1200)]


def picture(seed: int, size: tuple[int, int] = (256, 256), blur: float = 3) -> np.ndarray:
    """Coloured clouds, uint8 [H, W, 3], about as rough as photographs are."""
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    coarse = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(4 * blur)), dtype=float) - 128
    fine = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(blur)), dtype=float) - 128
    return (128 + 12 * coarse + 2 * fine).clip(0, 255).astype(np.uint8)


def score(pixels: np.ndarray) -> float | None:
    return watermark.score(Image.fromarray(pixels))


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return 10 * math.log10(255**2 / np.square(first.astype(float) - second).mean())


def again(pixels: np.ndarray, kind: str, **options: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))


def scaled(pixels: np.ndarray, factor: float) -> np.ndarray:
    height, width, _ = pixels.shape
    size = (round(factor * width), round(factor * height))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


@pytest.mark.parametrize("size", SIZES)
def test_the_mark_is_found_and_cannot_be_seen(size: tuple[int, int]):
    for seed in range(3):
        plain = picture(seed, size)
        marked = watermark.embed(plain)
        assert psnr(plain, marked) > 40
        assert np.abs(marked.astype(int) - plain).max() <= 12
        assert score(marked) > THRESHOLD > score(plain)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "fate",
    [
        pytest.param(lambda pixels: again(pixels, "JPEG", quality=75), id="JPEG"),
        pytest.param(lambda pixels: again(pixels, "WEBP", quality=75), id="WebP"),
        pytest.param(lambda pixels: again(pixels, "GIF"), id="GIF", marks=pytest.mark.slow),  # chooses a palette
        pytest.param(lambda pixels: scaled(pixels, 0.5), id="half size"),
        pytest.param(lambda pixels: scaled(pixels, 2), id="double size"),
        pytest.param(lambda pixels: (0.8 * pixels + 20).astype(np.uint8), id="paler"),
    ],
)
def test_the_mark_survives(size: tuple[int, int], fate):
    for seed in range(3):
        assert score(fate(watermark.embed(picture(seed, size)))) > THRESHOLD


@pytest.mark.slow
def test_pictures_without_the_mark_score_as_chance_does():
    scores = np.array([score(picture(seed, blur=blur)) for seed in range(40) for blur in (1, 3)])
    assert abs(scores.mean()) < 0.5
    assert 0.7 < scores.std() < 1.3
    assert scores.max() < THRESHOLD - 1


@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_a_flat_picture_has_no_mark(level: int):
    assert score(np.full((300, 300, 3), level, np.uint8)) < THRESHOLD


def test_a_flat_picture_can_be_marked():
    assert score(watermark.embed(np.full((300, 300, 3), 128, np.uint8))) > THRESHOLD


def test_too_small_a_picture_stays_as_it_is():
    small = picture(0, (SMALLEST - 1, 2 * SMALLEST))
    assert watermark.embed(small) is small
    assert score(small[:60, :60]) is None


def test_marking_the_same_picture_again_gives_the_same_and_leaves_it_alone():
    plain = picture(0)
    before = plain.copy()
    np.testing.assert_array_equal(watermark.embed(plain), watermark.embed(plain))
    np.testing.assert_array_equal(plain, before)


def test_a_grid_of_faces_is_a_picture_too():
    sheet = codecs.grid(np.stack([picture(seed, (64, 64), blur=1) for seed in range(16)]))
    assert score(again(watermark.embed(sheet), "JPEG", quality=75)) > THRESHOLD > score(sheet)
