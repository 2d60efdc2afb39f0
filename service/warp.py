"""Maps of the model's frame, carried to the photograph that the frame lies in.

Such a map is smooth: a frame pixel becomes several of the photograph's. So it is turned onto nodes some pixels apart,
and goes straight from node to node, in integers, a few rows at a time; a map of all of a large face's pixels never
exists.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from service import alignment

_FINE = 4  # frame pixels become so many, smoothly, before they are turned into the photograph's
_DENSE = 2.5  # nodes to a frame pixel, at least, where the photograph has as many pixels
_SPACINGS = (8, 4, 2, 1)
_BORDER = 3  # fine pixels along the frame's border that are left out
NEUTRAL = (128, 128, 128, 0)  # what lies outside the frame
_EIGHTHS = 8  # the fixed point at the nodes; on the way to a pixel it becomes 64ths
LARGEST = 2**15 // _EIGHTHS**2 - 1  # value that a map may hold


class Warp:
    """Takes maps uint8 [S, S, C] of a frame of `frame_size` to a picture of `size`, to which `matrix` f64 [2, 3] leads.

    `size` is width and height; `spacing` the pixels between nodes, of which there are [H', W'].
    """

    def __init__(self, matrix: np.ndarray, frame_size: int, size: tuple[int, int]) -> None:
        scale = alignment.scale(matrix)
        self.spacing = next(spacing for spacing in _SPACINGS if spacing == 1 or spacing * _DENSE <= scale)
        self._nodes = tuple(-(-side // self.spacing) + 1 for side in size)
        # Made finer by smooth interpolation, or coarser where the face is smaller than the frame, so that the turning
        # itself can be the fast, linear kind.
        self._side = max(1, round(frame_size * min(scale, _FINE)))
        # A node lies at the centre of the first of `spacing` pixels.
        shift = (1 - self.spacing) / 2
        to_picture = np.array([[self.spacing, 0, shift], [0, self.spacing, shift]])
        to_frame = alignment.after(alignment.inverse(matrix), to_picture)
        self._coefficients = tuple((to_frame * (self._side / frame_size)).ravel())

    def __call__(self, values: np.ndarray, mode: Literal["RGB", "CMYK"]) -> np.ndarray:
        """The map at the nodes, uint8 [H', W', C]; `CMYK` is any four channels: of RGBA, Pillow multiplies by the last.

        Outside the frame it is NEUTRAL.
        """
        picture = Image.frombytes(mode, values.shape[1::-1], np.ascontiguousarray(values).tobytes())
        fine = picture.resize((self._side,) * 2, Image.Resampling.BICUBIC)
        neutral = NEUTRAL[: values.shape[2]]
        if self.spacing > 1:
            # Or what lies within would reach a node outside: they are at most 2.3 such pixels apart, across a cell.
            fine = ImageOps.expand(ImageOps.crop(fine, _BORDER), _BORDER, neutral)
        turned = fine.transform(
            self._nodes, Image.Transform.AFFINE, self._coefficients, Image.Resampling.BILINEAR, fillcolor=neutral
        )
        return np.asarray(turned)


class Field:
    """A map f32 [H', W', C], C 1 or 3, of nodes `spacing` pixels apart, at the pixels between them, in three channels.

    No value may lie beyond LARGEST.
    """

    def __init__(self, nodes: np.ndarray, spacing: int) -> None:
        height, _, channels = nodes.shape
        between = np.arange(spacing) / spacing
        to_channels = np.eye(3) if channels == 3 else np.ones((1, 3))
        # From two nodes to the pixels from the first until the second: [2, C] by [spacing, 3].
        weights = np.einsum("nk,cd->nckd", _EIGHTHS * np.stack([1 - between, between]), to_channels)
        pairs = np.concatenate([nodes[:, :-1], nodes[:, 1:]], axis=2)
        # A product for each row: one for all would be spread over threads that are busy with other requests.
        across = pairs @ weights.reshape(2 * channels, -1).astype(np.float32)
        rows = np.rint(across, out=across).astype(np.int16).reshape(height, -1)  # [H', 3 W]
        # Sixteen bits may run over on the way; what they end at fits, and that is all that counts modulo 2**16.
        self._steps = np.diff(rows, axis=0)
        self._starts = rows * np.int16(_EIGHTHS) + np.int16(_EIGHTHS**2 // 2)  # halves, to be rounded
        self._between = (between * _EIGHTHS).astype(np.int16)[:, None]

    def rows(self, nodes: slice, columns: slice) -> np.ndarray:
        """Rounded to int16 [H, 3 W]: from the first of the rows of nodes to the one after the last, at those pixels."""
        across = slice(3 * columns.start, 3 * columns.stop)
        values = self._steps[nodes, None, across] * self._between
        values += self._starts[nodes, None, across]
        values >>= _EIGHTHS.bit_length() * 2 - 2
        return values.reshape(-1, values.shape[2])
