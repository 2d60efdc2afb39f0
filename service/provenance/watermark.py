"""An invisible watermark in the pixels of generated pictures, which survives the loss of metadata.

A spread-spectrum watermark (Cox et al. 1997) without a payload: a fixed pattern of signs is added to the middle
frequencies of a picture's luma, and detected by correlation. The pattern scales with the picture, so it survives
compression and downscaling, but neither cropping nor rotation.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
from PIL import Image

SMALLEST = 256  # shorter side in pixels
THRESHOLD = 6.0
_GRID = 256  # side that pictures are resized to for detection
_LOWEST, _HIGHEST = 8, 120  # of the band, in cycles per two picture sides
_KEPT = 0.9  # share of the frequencies below Nyquist that survive resampling
# Root mean square in levels of 255: a PSNR of 46 and 42 dB. A smooth picture hides less, and needs less for detection.
_FAINT, _STRONG = 1.25, 2.0
_ROUGH = 3.0  # mean difference of neighbours in levels, above which _STRONG is used
_RING = 4  # width of the rings of frequencies that are normalised together
_KEY = b"Facet 1"


def embed(pixels: np.ndarray) -> np.ndarray:
    """The picture uint8 [H, W, 3] with the watermark; unchanged if its shorter side is below `SMALLEST`."""
    height, width, _ = pixels.shape
    if min(height, width) < SMALLEST:
        return pixels
    strength = _STRONG if _roughness(pixels) > _ROUGH else _FAINT
    marked = pixels + _pattern(width, height, strength)[:, :, None].astype(np.int16)
    return marked.clip(0, 255).astype(np.uint8)


def _roughness(pixels: np.ndarray) -> float:
    """Mean difference of neighbours along every fourth row, in levels."""
    green = pixels[::4, :, 1].astype(np.int16)
    return float(np.abs(np.diff(green, axis=1)).mean())


def score(image: Image.Image) -> float | None:
    """The detection score of an RGB picture; None if it is too small.

    Without the watermark, the score is approximately from N(0, 1). By Hoeffding's inequality, a share of less than
    exp(-t^2 / 2) of all patterns reaches t in any picture: 1.5e-8 for `THRESHOLD`.
    """
    if min(image.size) < SMALLEST // 4:
        return None
    luma = image.convert("L").resize((_GRID, _GRID), Image.Resampling.BICUBIC, reducing_gap=3)
    return _correlation(np.asarray(luma, dtype=np.float64), min(image.size))


def _correlation(luma: np.ndarray, size: int) -> float:
    """Of luma f64 [G, G] with the pattern; `size` is the picture's shorter side before resizing."""
    transform = _transform()
    radius, signs = _band_radius(), _signs()
    found = (transform @ luma @ transform.T)[_band()]
    # A small picture has lost the highest frequencies.
    kept = radius < _KEPT * size
    found, signs, rings = found[kept], signs[kept], ((radius[kept] - _LOWEST) // _RING).astype(int)
    # The matched filter: frequencies at which the picture itself is strong get a small weight.
    power = np.bincount(rings, np.abs(found)) / np.bincount(rings)
    scale = np.maximum(power, 0.5)[rings]
    found = (found / scale).clip(-2, 2) / scale
    norm = math.sqrt(np.square(found).sum())
    return float(signs @ found / norm) if norm else 0.0


@lru_cache(maxsize=4)
def _pattern(width: int, height: int, strength: float) -> np.ndarray:
    """The pattern to add, int8 [H, W] in levels."""
    transform = _transform()
    spectrum = np.zeros((_GRID, _GRID))
    spectrum[_band()] = _signs()
    pattern = transform.T @ spectrum @ transform
    pattern *= strength / pattern.std()
    stretched = Image.fromarray(pattern.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(stretched).round().astype(np.int8)


@lru_cache
def _transform() -> np.ndarray:
    """The orthonormal DCT-II as a matrix f64 [G, G]."""
    index = np.arange(_GRID)
    matrix = np.sqrt(2 / _GRID) * np.cos(np.pi * np.outer(index, 2 * index + 1) / (2 * _GRID))
    matrix[0] /= math.sqrt(2)
    return matrix


@lru_cache
def _band() -> np.ndarray:
    """The frequencies of the watermark, bool [G, G]; none on the axes, where grids and lettering are strong."""
    index = np.arange(_GRID)
    radius = np.hypot.outer(index, index)
    return (radius >= _LOWEST) & (radius < _HIGHEST) & np.minimum.outer(index, index).astype(bool)


@lru_cache
def _band_radius() -> np.ndarray:
    """The radius of each frequency of the band, f64 [B]."""
    index = np.arange(_GRID)
    return np.hypot.outer(index, index)[_band()]


@lru_cache
def _signs() -> np.ndarray:
    """The sign of each frequency of the band, -1 or 1, f64 [B]."""
    count = int(_band().sum())
    bits = np.unpackbits(np.frombuffer(hashlib.shake_256(_KEY).digest(count // 8 + 1), dtype=np.uint8))[:count]
    return 2.0 * bits - 1
