"""Edits without an editor: the difference of two decodes is added to the photograph (Brock et al. 2017).

The decoder draws the face before and after the edit. Their difference is masked, warped to the photograph and added to
it. So the photograph keeps its own detail, and errors that both decodes share cancel out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from PIL import Image

from service.imaging import alignment, field_maps
from service.imaging.edit_fields import LUMA
from service.imaging.tone import Tone
from service.imaging.warp import NEUTRAL, Field, Warp

_FEATHER = 0.14  # width relative to the frame over which edits fade out at its border
# In levels of 255: differences below the first are noise of the decoder, those above the second count fully.
_NOISE, _SIGNIFICANT = 3.0, 10.0
# Between these differences, the photograph's detail fades out, since it belongs to what the edit replaces.
_REPLACED, _REPLACED_WHOLLY = 20.0, 60.0
_SPREAD = 0.025  # standard deviation of the mask's blur, relative to the frame
_WHOLE = 256  # fixed-point 1 of the weights by which pixels fade

Edit = tuple[np.ndarray, np.ndarray, np.ndarray]


class PhotoEdit(Protocol):
    """The edit of one face of a photograph: a DrawnEdit, or a service.imaging.compositing.FieldEdit."""

    def onto(self, photo: Image.Image, tone: Tone | None = None) -> bool:
        """Edit an RGB photograph in place; of one with a `tone` only the luma, so that it keeps its tone.

        False where nothing changes.
        """

    def resized(self, factors: np.ndarray, origin: np.ndarray | None = None) -> PhotoEdit:
        """The same edit of a picture that is larger by `factors` f64 [2, 1], horizontally and vertically; with `origin`
        f64 [2], of the part of the picture that begins there.
        """


@dataclass(frozen=True)
class DrawnEdit:
    """The difference of two decodes, uint8 [S, S, 3]; `matrix` f64 [2, 3] maps the frame to the photograph."""

    matrix: np.ndarray
    before: np.ndarray
    after: np.ndarray

    def onto(self, photo: Image.Image, tone: Tone | None = None) -> bool:
        faces = self.before, self.after
        before, after = faces if tone is None else map(_in_grey, faces)
        return _paste(photo, self.matrix, before, after, tone)

    def resized(self, factors: np.ndarray, origin: np.ndarray | None = None) -> DrawnEdit:
        return DrawnEdit(alignment.seen(self.matrix, factors, origin), self.before, self.after)


def paste(photo: Image.Image, edits: Iterable[Edit]) -> Image.Image:
    """A copy of an RGB photograph with the edits of its faces, applied one after the other.

    An edit is a `matrix` f64 [2, 3], which maps frame coordinates to the photograph's (service.imaging.alignment), and
    a face before and after, both uint8 [S, S, 3]. Equal faces change nothing, and nothing outside the frames changes.
    """
    result = photo.copy()
    paste_into(result, edits)
    return result


def paste_into(photo: Image.Image, edits: Iterable[Edit]) -> None:
    """As `paste`, in place."""
    for matrix, before, after in edits:
        _paste(photo, matrix, before, after)


def _in_grey(face: np.ndarray) -> np.ndarray:
    """The luma of uint8 [S, S, 3], in three equal channels."""
    return np.repeat(np.rint(face @ LUMA).astype(np.uint8)[:, :, None], 3, axis=2)


def _paste(
    photo: Image.Image, matrix: np.ndarray, before: np.ndarray, after: np.ndarray, tone: Tone | None = None
) -> bool:
    change, replaced = _change(before, after)
    region = _region(matrix, change, photo.size)
    if region is None:
        return False
    left, top, right, bottom = region
    local = matrix.copy()
    local[:, 2] -= region[:2]
    warp = Warp(local, len(before), (right - left, bottom - top))
    # Colours and the mask of replaced detail are warped together, in bytes. The change is quantised with a step that
    # fits its largest value.
    step = max(np.abs(change).max() / 120, 0.25)
    levels = np.dstack([128 + change / step, 255 * replaced]).round().astype(np.uint8)
    nodes = warp(levels, "CMYK")
    added, kept = ((nodes[:, :, :3] - np.float32(128)) * np.float32(step)).clip(-255, 255), None
    if replaced.any() and alignment.scale(matrix) > 1:
        # Detail fades into the photograph at the frame's resolution, which is added with the same weight.
        share = nodes[:, :, 3:] / np.float32(255)
        added += share * warp(alignment.sample(photo, matrix, len(before)), "RGB")
        kept = Field(_WHOLE - _WHOLE * share, warp.spacing)
    touched = nodes != NEUTRAL
    _add(photo, region, warp.spacing, touched.any(axis=2), Field(added, warp.spacing), kept, tone)
    return True


def _add(
    photo: Image.Image,
    region: tuple[int, int, int, int],
    spacing: int,
    touched: np.ndarray,
    added: Field,
    kept: Field | None,
    tone: Tone | None,
) -> None:
    """Scale the region by `kept`, in units of 1 / _WHOLE, and add `added`, where nodes bool [H', W'] are touched."""
    for nodes, columns, box in field_maps.strips(touched, spacing, region):
        part = taken = np.asarray(photo.crop(box))
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
        pixels = result.astype(np.uint8).reshape(height, width, 3)
        photo.paste(Image.fromarray(pixels if tone is None else tone.kept(taken, pixels)), box[:2])


def _change(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The masked difference, f32 [S, S, 3], and the weight with which it replaces detail, f32 [S, S]."""
    change = after.astype(np.float32) - before.astype(np.float32)
    size = len(change)
    blur, window = _blur(size), _window(size)
    strength = blur @ np.abs(change).max(axis=2) @ blur.T
    mask = blur @ _step(strength, _NOISE, _SIGNIFICANT) @ blur.T * window
    replaced = blur @ _step(strength, _REPLACED, _REPLACED_WHOLLY) @ blur.T * window
    # The blur never reaches 0 exactly; the edit must.
    mask, replaced = (np.where(share > 1e-3, share, 0) for share in (mask, replaced))
    return change * mask[:, :, None], replaced


@lru_cache
def _blur(size: int) -> np.ndarray:
    """A Gaussian blur along one axis as a matrix f32 [S, S], normalised at the border."""
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    weights = np.exp(-0.5 * np.square(distance / (_SPREAD * size)))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _step(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """A smoothstep from 0 at `low` to 1 at `high`."""
    share = ((values - low) / (high - low)).clip(0, 1)
    return share * share * (3 - 2 * share)


@lru_cache
def _window(size: int) -> np.ndarray:
    """The weight of an edit, f32 [S, S]: 1 inside, falling to 0 at the frame's border."""
    inward = np.minimum(np.arange(size), np.arange(size)[::-1])
    edge = _step(inward.astype(np.float32), 0, _FEATHER * size)
    return np.outer(edge, edge).astype(np.float32)


def _region(matrix: np.ndarray, change: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the part of a picture of width and height `size` that f32 [S, S, 3] affects."""
    rows, columns = (np.flatnonzero(change.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    if not len(rows):
        return None
    # Interpolation spreads a value by two pixels.
    (x0, x1), (y0, y1) = ((found[0] - 2, found[-1] + 3) for found in (columns, rows))
    found = alignment.apply(matrix, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    left, top = np.floor(found.min(0)).astype(int).clip(0)
    right, bottom = np.minimum(np.ceil(found.max(0)).astype(int), size)
    return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None
