"""What an editor says to do with a picture: where to take each pixel from, and what to make of it.

With `moved` the picture after its pixels were taken from elsewhere, values in 0..1, the edited picture is
`moved + mask * (gain * moved + residual)`. A gain carries the picture's own texture; only what is new is residual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

NAMES = ("mask", "gain", "residual", "flow")


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


def split(outputs: Mapping[str, np.ndarray]) -> Iterator[EditFields]:
    """The fields of each face from the graph's outputs [N, S, S, C]."""
    return (EditFields(*rows) for rows in zip(*(outputs[name] for name in NAMES), strict=True))


def apply(picture: np.ndarray, fields: EditFields) -> np.ndarray:
    """The editor's own picture uint8 [S, S, 3], edited; pixels of mask 0 keep their values exactly."""
    mask = fields.mask
    moved = _moved(picture, fields.flow)
    levels = moved + mask * (fields.gain * moved + np.float32(255) * fields.residual)
    edited = np.rint(levels).clip(0, 255).astype(np.uint8)
    return np.where(mask > 0, edited, picture)


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
    above, below = (
        source[row, left] * (1 - across) + source[row, left + 1] * across for row in (top, top + 1)
    )
    return above * (1 - down) + below * down
