"""Puts an edit back into the photograph it belongs to.

The model sees a small, upright view of the face and draws it twice, as it is and as it should be. Only the difference
reaches the photograph (Brock et al. 2017), through a soft mask, so the photograph keeps its own detail at its own
resolution, and whatever the model draws imperfectly in both pictures cancels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from PIL import Image

from service import alignment, field_maps
from service.edit_fields import LUMA
from service.warp import NEUTRAL, Field, Warp

_FEATHER = 0.14  # share of the frame over which an edit fades out towards its border
# Levels of 255. A difference below the first is noise of the decoder, above the second it is meant.
_NOISE, _MEANT = 3.0, 10.0
# From here on the photograph's own fine detail belongs to what is no longer there, and fades out.
_REPLACED, _REPLACED_WHOLLY = 20.0, 60.0
_SPREAD = 0.025  # of the mask, share of the frame
_WHOLE = 256  # of a pixel, in the shares by which it fades

Edit = tuple[np.ndarray, np.ndarray, np.ndarray]


class PhotoEdit(Protocol):
    """A face's edit on its way into a photograph: a DrawnEdit, or a service.compositing.FieldEdit."""

    def onto(self, photo: Image.Image, grey: bool = False) -> None:
        """Edit an RGB photograph in place; of a `grey` one, whose channels are equal, the luminance alone."""

    def resized(self, factors: np.ndarray) -> PhotoEdit:
        """The same edit of a picture that is larger by `factors` f64 [2, 1], across and down."""


@dataclass(frozen=True)
class DrawnEdit:
    """The difference of a face before and after, both uint8 [S, S, 3]; `matrix` f64 [2, 3] says where it lies."""

    matrix: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def onto(self, photo: Image.Image, grey: bool = False) -> None:
        before, after = (_in_grey(face) for face in (self.before, self.after)) if grey else (self.before, self.after)
        _paste(photo, self.matrix, before, after)

    def resized(self, factors: np.ndarray) -> DrawnEdit:
        return DrawnEdit(self.matrix * factors, self.before, self.after)


def paste(photo: Image.Image, edits: Iterable[Edit]) -> Image.Image:
    """The photograph, RGB, with the edits of its faces, one after the other; the photograph itself is left as it is.

    An edit is a `matrix` f64 [2, 3], which takes frame coordinates to the photograph's (service.alignment), and a face
    before and after, both uint8 [S, S, 3]. Equal faces change nothing, and nothing changes outside the frames.
    """
    result = photo.copy()
    paste_into(result, edits)
    return result


def paste_into(photo: Image.Image, edits: Iterable[Edit]) -> None:
    """As `paste`, in the photograph itself."""
    for matrix, before, after in edits:
        _paste(photo, matrix, before, after)


def _in_grey(face: np.ndarray) -> np.ndarray:
    """The luminance of uint8 [S, S, 3] in all three channels."""
    return np.repeat(np.rint(face @ LUMA).astype(np.uint8)[:, :, None], 3, axis=2)


def _paste(photo: Image.Image, matrix: np.ndarray, before: np.ndarray, after: np.ndarray) -> None:
    change, replaced = _change(before, after)
    region = _region(matrix, change, photo.size)
    if region is None:
        return
    left, top, right, bottom = region
    local = matrix.copy()
    local[:, 2] -= region[:2]
    warp = Warp(local, len(before), (right - left, bottom - top))
    # Colours and the mask of what is replaced travel through one warp, in bytes: of the change, as many steps of it as
    # the largest needs.
    step = max(np.abs(change).max() / 120, 0.25)
    levels = np.dstack([128 + change / step, 255 * replaced]).round().astype(np.uint8)
    nodes = warp(levels, "CMYK")
    added, kept = ((nodes[:, :, :3] - np.float32(128)) * np.float32(step)).clip(-255, 255), None
    if replaced.any() and alignment.scale(matrix) > 1:
        # Detail fades towards a coarse view of the photograph: most of that is added, too.
        share = nodes[:, :, 3:] / np.float32(255)
        added += share * warp(alignment.sample(photo, matrix, len(before)), "RGB")
        kept = Field(_WHOLE - _WHOLE * share, warp.spacing)
    touched = nodes != NEUTRAL
    _add(photo, region, warp.spacing, touched.any(axis=2), Field(added, warp.spacing), kept)


def _add(
    photo: Image.Image,
    region: tuple[int, int, int, int],
    spacing: int,
    touched: np.ndarray,
    added: Field,
    kept: Field | None,
) -> None:
    """Keep shares of the region, in parts of _WHOLE, and add to it, where nodes bool [H', W'] are touched."""
    for nodes, columns, box in field_maps.strips(touched, spacing, region):
        part = np.asarray(photo.crop(box))
        height, width, _ = part.shape
        result = added.rows(nodes, columns)[:height]
        part = part.reshape(height, -1)
        if kept is not None:
            shares = kept.rows(nodes, columns)[:height].view(np.uint16)
            shares *= part
            shares += _WHOLE // 2
            shares >>= 8
            part = shares.view(np.int16)
        result += part
        np.clip(result, 0, 255, out=result)
        photo.paste(Image.fromarray(result.astype(np.uint8).reshape(height, width, 3)), box[:2])


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
