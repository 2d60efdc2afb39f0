"""What an editor says to do with a picture: where to take each pixel from, and what to make of it.

With `moved` the picture after its pixels were taken from elsewhere, values in 0..1, the edited picture is
`moved + mask * (gain * moved + residual)`. A gain carries the picture's own texture; only what is new is residual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

NAMES = ("mask", "gain", "residual", "flow")
# A network's mask fades out and never ends: below this it is no edit.
_FAINT = 0.02
_FEATHER = 0.04  # share of the frame over which an edit that reaches its border fades out
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # as Pillow converts to grey (ITU-R BT.601)


@dataclass(frozen=True)
class EditFields:
    """The fields of one face, in its frame of S x S pixels.

    `mask` f32 [S, S, 1] in 0..1; `gain` f32 [S, S, 3] in -1..1; `residual` f32 [S, S, 3] in units where the picture is
    0..1; `flow` f32 [S, S, 2], x then y: each pixel is taken from its place plus that share of the frame. Where the
    mask is 0 nothing changes, and the flow does not count.
    """

    mask: np.ndarray
    gain: np.ndarray
    residual: np.ndarray
    flow: np.ndarray

    @property
    def size(self) -> int:
        return len(self.mask)

    def settled(self) -> EditFields:
        """With a mask that is 0 where it is faint and at the frame's border, and a flow that ends where that does."""
        mask = ((self.mask - _FAINT) / (1 - _FAINT)).clip(0, 1) * _window(self.size)
        # Both fade in the same proportion, or pixels would jump where the mask begins.
        kept = np.divide(mask, self.mask, out=np.zeros_like(mask), where=mask > 0)
        return EditFields(mask, self.gain, self.residual, self.flow * kept)

    def grey(self) -> EditFields:
        """What they do to the luminance of a picture without colours."""
        gain, residual = (np.repeat((field @ LUMA)[:, :, None], 3, axis=2) for field in (self.gain, self.residual))
        return EditFields(self.mask, gain, residual, self.flow)


def split(outputs: Mapping[str, np.ndarray]) -> Iterator[EditFields]:
    """The fields of each face from the graph's outputs [N, S, S, C]."""
    return (EditFields(*rows) for rows in zip(*(outputs[name] for name in NAMES), strict=True))


def apply(picture: np.ndarray, fields: EditFields) -> np.ndarray:
    """The editor's own picture uint8 [S, S, 3], edited; pixels of a faint mask keep their values exactly."""
    fields = fields.settled()
    moved = _moved(picture, fields.flow)
    levels = moved + fields.mask * (fields.gain * moved + np.float32(255) * fields.residual)
    edited = np.rint(levels).clip(0, 255).astype(np.uint8)
    return np.where(fields.mask > 0, edited, picture)


@lru_cache
def _window(size: int) -> np.ndarray:
    """1 inside, falling to 0 at the frame's border; f32 [S, S, 1]."""
    inward = np.minimum(np.arange(size), np.arange(size)[::-1]).astype(np.float32)
    edge = (inward / max(1.0, _FEATHER * size)).clip(0, 1)
    edge = edge * edge * (3 - 2 * edge)
    return np.outer(edge, edge)[:, :, None]


def _moved(picture: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The picture uint8 [S, S, 3] with each pixel taken from its place plus `flow`, bilinear; f32 [S, S, 3].

    Beyond the border its pixels continue.
    """
    if not flow.any():
        return picture.astype(np.float32)
    size = len(picture)
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    x, y = ((grid + size * flow[:, :, axis]).clip(0, size - 1) for axis, grid in enumerate((columns, rows)))
    left, top = (np.minimum(place.astype(np.int32), size - 2) for place in (x, y))
    across, down = (x - left)[:, :, None], (y - top)[:, :, None]
    source = picture.astype(np.float32)
    above, below = (source[row, left] * (1 - across) + source[row, left + 1] * across for row in (top, top + 1))
    return above * (1 - down) + below * down
