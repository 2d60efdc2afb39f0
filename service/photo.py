"""Puts an edit back into the photograph it belongs to.

The model sees a small, upright view of the face and draws it twice, as it is and as it should be. Only the difference
reaches the photograph (Brock et al. 2017), through a soft mask, so the photograph keeps its own detail at its own
resolution, and whatever the model draws imperfectly in both pictures cancels.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image

from service import alignment

_FEATHER = 0.14  # share of the frame over which an edit fades out towards its border
# Levels of 255. A difference below the first is noise of the decoder, above the second it is meant.
_NOISE, _MEANT = 3.0, 10.0
# From here on the photograph's own fine detail belongs to what is no longer there, and fades out.
_REPLACED, _REPLACED_WHOLLY = 20.0, 60.0
_SPREAD = 0.025  # of the mask, share of the frame
_FINE = 4  # frame pixels become so many, smoothly, before they are turned into the photograph's


def paste(photo: Image.Image, edits: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Image.Image:
    """The photograph, RGB, with the edits of its faces, one after the other; the photograph itself is left as it is.

    An edit is a `matrix` f64 [2, 3], which takes frame coordinates to the photograph's (service.alignment), and a face
    before and after, both uint8 [S, S, 3]. Equal faces change nothing, and nothing changes outside the frames.
    """
    result = photo.copy()
    for matrix, before, after in edits:
        _paste(result, matrix, before, after)
    return result


def _paste(photo: Image.Image, matrix: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    change, replaced = _change(before, after)
    region = _region(matrix, change, photo.size)
    if region is None:
        return
    origin = region[:2]
    local = matrix.copy()
    local[:, 2] -= origin
    part = photo.crop(region)
    warp = _Warp(local, len(before), part.size)
    # Colours and the mask of what is replaced travel through one warp, in bytes: of the change, as many steps of it as
    # the largest needs.
    step = max(np.abs(change).max() / 120, 0.25)
    levels = np.dstack([128 + change / step, 255 * replaced]).round().astype(np.uint8)
    warped = warp(levels, "CMYK")
    if replaced.any() and alignment.scale(matrix) > 1:
        coarse = warp(alignment.sample(part, local, len(before)), "RGB")
        part = Image.composite(coarse, part, warped.getchannel(3))
    table = ((np.arange(256) - 128) * step).round().astype(np.int16)
    result = table[np.asarray(warped)[:, :, :3]]
    result += np.asarray(part)
    photo.paste(Image.fromarray(result.clip(0, 255).astype(np.uint8)), origin)


def _change(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The difference as far as it counts, f32 [S, S, 3], and where it takes the place of what was there, f32 [S, S]."""
    change = after.astype(np.float32) - before.astype(np.float32)
    size = len(change)
    blur, window = _blur(size), _window(size)
    strength = blur @ np.abs(change).max(axis=2) @ blur.T
    mask = blur @ _step(strength, _NOISE, _MEANT) @ blur.T * window
    replaced = blur @ _step(strength, _REPLACED, _REPLACED_WHOLLY) @ blur.T * window
    # A Gaussian never ends; an edit does.
    mask, replaced = (np.where(share > 1e-3, share, 0) for share in (mask, replaced))
    return change * mask[:, :, None], replaced


@lru_cache
def _blur(size: int) -> np.ndarray:
    """A Gaussian blur along one axis as a matrix f32 [S, S]; at the border the values inside weigh more."""
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    weights = np.exp(-0.5 * np.square(distance / (_SPREAD * size)))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """From 0 to 1 between `low` and `high`, without a corner."""
    share = ((values - low) / (high - low)).clip(0, 1)
    return share * share * (3 - 2 * share)


@lru_cache
def _window(size: int) -> np.ndarray:
    """1 inside, falling to 0 at the frame's border; f32 [S, S]."""
    inward = np.minimum(np.arange(size), np.arange(size)[::-1])
    edge = _step(inward.astype(np.float32), 0, _FEATHER * size)
    return np.outer(edge, edge).astype(np.float32)


def _region(matrix: np.ndarray, change: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the part of a picture of that width and height which f32 [S, S, 3] reaches."""
    rows, columns = (np.flatnonzero(change.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    if not len(rows):
        return None
    # Interpolation carries a value two pixels far.
    (x0, x1), (y0, y1) = ((found[0] - 2, found[-1] + 3) for found in (columns, rows))
    found = alignment.apply(matrix, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    left, top = np.floor(found.min(0)).astype(int).clip(0)
    right, bottom = np.minimum(np.ceil(found.max(0)).astype(int), size)
    return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None


class _Warp:
    """Takes maps of the frame, uint8 [S, S, C], to a picture of `size`, to which `matrix` leads from the frame."""

    def __init__(self, matrix: np.ndarray, frame_size: int, size: tuple[int, int]) -> None:
        # Made finer by smooth interpolation, or coarser where the face is smaller than the frame, so that the turning
        # itself can be the fast, linear kind.
        self._side = max(1, round(frame_size * min(alignment.scale(matrix), _FINE)))
        self._coefficients = tuple((alignment.inverse(matrix) * (self._side / frame_size)).ravel())
        self._size = size

    def __call__(self, values: np.ndarray, mode: Literal["RGB", "CMYK"]) -> Image.Image:
        """`CMYK` is any four channels: Pillow would multiply those of RGBA by the last."""
        picture = Image.frombytes(mode, values.shape[1::-1], np.ascontiguousarray(values).tobytes())
        fine = picture.resize((self._side,) * 2, Image.Resampling.BICUBIC)
        neutral = (128, 128, 128, 0)[: values.shape[2]]
        return fine.transform(
            self._size, Image.Transform.AFFINE, self._coefficients, Image.Resampling.BILINEAR, fillcolor=neutral
        )
