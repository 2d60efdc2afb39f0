"""Puts an edit back into the photograph it belongs to.

The model sees a small, upright view of the face and draws it twice, as it is and as it should be. Only the difference
reaches the photograph (Brock et al. 2017), through a soft mask, so the photograph keeps its own detail at its own
resolution, and whatever the model draws imperfectly in both pictures cancels.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

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


def paste(photo: np.ndarray, edits: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """The photograph uint8 [H, W, 3] with the edits of its faces, one after the other.

    An edit is a `matrix` f64 [2, 3], which takes frame coordinates to the photograph's (service.alignment), and a face
    before and after, both uint8 [S, S, 3]. Equal faces change nothing, and nothing changes outside the frames. The
    photograph itself is left as it is.
    """
    result = photo.copy()
    for matrix, before, after in edits:
        _paste(result, matrix, before, after)
    return result


def _paste(photo: np.ndarray, matrix: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    change, mask, replaced = _change(before, after)
    size = len(before)
    rows, columns = _region(matrix, size, photo.shape)
    if not mask.any() or rows.start >= rows.stop or columns.start >= columns.stop:
        return
    local = matrix.copy()
    local[:, 2] -= [columns.start, rows.start]
    part = photo[rows, columns]
    warp = _Warp(local, size, part.shape)
    result = part.astype(np.float32)
    if replaced.any() and alignment.scale(matrix) > 1:
        result -= warp(replaced)[:, :, None] * _detail(part, local, size, warp)
    result += np.stack([warp(change[:, :, channel] * mask) for channel in range(3)], axis=-1)
    photo[rows, columns] = result.round().clip(0, 255).astype(np.uint8)


def _change(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The difference f32 [S, S, 3], where it counts, and where it takes the place of what was there; f32 [S, S]."""
    change = after.astype(np.float32) - before.astype(np.float32)
    size = len(change)
    blur, window = _blur(size), _window(size)
    strength = blur @ np.abs(change).max(axis=2) @ blur.T
    mask = blur @ _step(strength, _NOISE, _MEANT) @ blur.T * window
    replaced = blur @ _step(strength, _REPLACED, _REPLACED_WHOLLY) @ blur.T * window
    # A Gaussian never ends; an edit does.
    return change, np.where(mask > 1e-3, mask, 0), np.where(replaced > 1e-3, replaced, 0)


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


def _region(matrix: np.ndarray, size: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the photograph that the frame touches."""
    found = alignment.corners(matrix, size)
    left, top = np.floor(found.min(0)).astype(int)
    right, bottom = np.ceil(found.max(0)).astype(int)
    return slice(max(0, top), min(shape[0], bottom)), slice(max(0, left), min(shape[1], right))


class _Warp:
    """Takes maps f32 [S, S] of the frame to f32 [H, W] of the picture that `matrix` leads to."""

    def __init__(self, matrix: np.ndarray, size: int, shape: tuple[int, ...]) -> None:
        # Made finer by smooth interpolation, or coarser where the face is smaller than the frame, so that the turning
        # itself can be the fast, linear kind.
        self._side = max(1, round(size * min(alignment.scale(matrix), _FINE)))
        self._coefficients = tuple((alignment.inverse(matrix) * (self._side / size)).ravel())
        self._shape = (shape[1], shape[0])

    def __call__(self, values: np.ndarray) -> np.ndarray:
        fine = Image.fromarray(values.astype(np.float32)).resize((self._side,) * 2, Image.Resampling.BICUBIC)
        turned = fine.transform(self._shape, Image.Transform.AFFINE, self._coefficients, Image.Resampling.BILINEAR)
        return np.asarray(turned)


def _detail(photo: np.ndarray, matrix: np.ndarray, size: int, warp: _Warp) -> np.ndarray:
    """What the picture has that the model's view of it has not, f32 [H, W, 3]."""
    view = alignment.sample(Image.fromarray(photo), matrix, size).astype(np.float32)
    return photo - np.stack([warp(view[:, :, channel]) for channel in range(3)], axis=-1)
