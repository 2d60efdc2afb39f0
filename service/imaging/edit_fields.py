"""Edit fields: the output of an editor, which tells how to move and recolour the pixels of a picture.

With `moved`, the picture warped by the flow, values in 0..1, the edited picture is
`moved + mask * (gain * moved + residual)`. The gain keeps the picture's own texture; the residual adds what is new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

NAMES = ("mask", "gain", "residual", "flow")
# The mask of a network never reaches 0 exactly; below this value nothing is edited.
_FAINT = 0.02
# Shorter motions, in pixels of the frame, are noise of the network, and cost most of an edit of a large photograph.
_STILL = 0.25
_FEATHER = 0.04  # width relative to the frame over which edits fade out at its border
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # as Pillow converts to grey (ITU-R BT.601)


@dataclass(frozen=True)
class EditFields:
    """The fields of one face, in its frame of S x S pixels.

    `mask` f32 [S, S, 1] in 0..1; `gain` f32 [S, S, 3] in -1..1; `residual` f32 [S, S, 3] in units where the picture is
    0..1; `flow` f32 [S, S, 2], x then y, relative to the frame: each pixel is taken from its position plus the flow.
    Where the mask is 0, nothing changes.
    """

    mask: np.ndarray
    gain: np.ndarray
    residual: np.ndarray
    flow: np.ndarray

    @property
    def size(self) -> int:
        return len(self.mask)

    def settled(self) -> EditFields:
        """With a mask that is 0 where it is faint and at the border, and a flow that is reduced accordingly.

        The flow is also 0 where it is short.
        """
        mask = ((self.mask - _FAINT) / (1 - _FAINT)).clip(0, 1) * _window(self.size)
        # Both are reduced by the same factor, or pixels would jump at the edge of the mask.
        flow = self.flow * np.divide(mask, self.mask, out=np.zeros_like(mask), where=mask > 0)
        lengths = self.size * np.sqrt(np.square(flow).sum(axis=2, keepdims=True))
        # Full from twice the threshold on: no pixel jumps where motion begins, and longer motions keep their length.
        return EditFields(mask, self.gain, self.residual, flow * (lengths / _STILL - 1).clip(0, 1))

    def grey(self) -> EditFields:
        """The same edit of luma only, for pictures without colours."""
        gain, residual = (np.repeat((field @ LUMA)[:, :, None], 3, axis=2) for field in (self.gain, self.residual))
        return EditFields(self.mask, gain, residual, self.flow)


def split(outputs: Mapping[str, np.ndarray]) -> Iterator[EditFields]:
    """The fields of each face from the graph's outputs [N, S, S, C]."""
    return (EditFields(*rows) for rows in zip(*(outputs[name] for name in NAMES), strict=True))


def apply(picture: np.ndarray, fields: EditFields) -> np.ndarray:
    """The editor's input uint8 [S, S, 3], edited; pixels with a faint mask keep their exact values."""
    fields, edited = fields.settled(), picture.copy()
    part = tuple(_extent(fields.mask.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    mask, moved = fields.mask[part], _moved(picture, fields.flow[part], part)
    levels = moved + mask * (fields.gain[part] * moved + np.float32(255) * fields.residual[part])
    np.copyto(edited[part], np.rint(levels).clip(0, 255).astype(np.uint8), where=mask > 0)
    return edited


def _extent(present: np.ndarray) -> slice:
    """From the first to the last True of bool [S]; empty where there is none."""
    where = np.flatnonzero(present)
    return slice(where[0], where[-1] + 1) if len(where) else slice(0, 0)


@lru_cache
def _window(size: int) -> np.ndarray:
    """The weight of an edit, f32 [S, S, 1]: 1 inside, falling to 0 at the frame's border."""
    inward = np.minimum(np.arange(size), np.arange(size)[::-1]).astype(np.float32)
    edge = (inward / max(1.0, _FEATHER * size)).clip(0, 1)
    edge = edge * edge * (3 - 2 * edge)
    return np.outer(edge, edge)[:, :, None]


def _moved(picture: np.ndarray, flow: np.ndarray, part: tuple[slice, slice]) -> np.ndarray:
    """The rows and columns `part` of the picture uint8 [S, S, 3], f32 [H, W, 3].

    Each pixel is taken from its position plus `flow` f32 [H, W, 2] of that part, bilinear; border pixels are repeated
    outside the picture.
    """
    if not flow.any():
        return picture[part].astype(np.float32)
    size = len(picture)
    rows, columns = np.mgrid[part].astype(np.float32)
    x, y = ((grid + size * flow[:, :, axis]).clip(0, size - 1) for axis, grid in enumerate((columns, rows)))
    left, top = (np.minimum(axis.astype(np.int32), size - 2) for axis in (x, y))
    across, down = (x - left)[:, :, None], (y - top)[:, :, None]
    pixels, first = picture.reshape(-1, 3).astype(np.float32), top * size + left
    above, below = (
        pixels.take(corner, axis=0) * (1 - across) + pixels.take(corner + 1, axis=0) * across
        for corner in (first, first + size)
    )
    return above * (1 - down) + below * down
