"""Warping of 8-bit maps from the model's frame to the photograph, for differences of two decodes.

A map is smooth, because a frame pixel covers several pixels of the photograph. So it is warped to a grid of nodes, and
interpolated linearly between them, with integers, a few rows at a time. It is never held at full resolution.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from service.imaging import alignment

_FINE = 4  # upper limit of the enlargement before the rotation
_DENSE = 2.5  # least number of nodes per frame pixel, if the photograph has as many pixels
_SPACINGS = (8, 4, 2, 1)
_BORDER = 3  # pixels of the enlarged map that are cleared along its border
NEUTRAL = (128, 128, 128, 0)  # the map's value outside the frame
_EIGHTHS = 8  # fixed-point scale at the nodes; interpolation squares it
LARGEST = 2**15 // _EIGHTHS**2 - 1  # of a map's values, so that int16 does not overflow


class Warp:
    """Warps maps uint8 [S, S, C] of a frame of `frame_size` by `matrix` f64 [2, 3] to a picture.

    `size` is the picture's width and height. There are [H', W'] nodes, `spacing` pixels apart.
    """

    def __init__(self, matrix: np.ndarray, frame_size: int, size: tuple[int, int]) -> None:
        scale = alignment.scale(matrix)
        self.spacing = next(spacing for spacing in _SPACINGS if spacing == 1 or spacing * _DENSE <= scale)
        self._nodes = tuple(-(-side // self.spacing) + 1 for side in size)
        # The map is first resized with smooth interpolation, to about the face's size in the picture, so that fast
        # linear interpolation is sufficient for the rotation.
        self._side = max(1, round(frame_size * min(scale, _FINE)))
        # A node lies at the centre of the first of `spacing` pixels.
        shift = (1 - self.spacing) / 2
        to_picture = np.array([[self.spacing, 0, shift], [0, self.spacing, shift]])
        to_frame = alignment.after(alignment.inverse(matrix), to_picture)
        self._coefficients = tuple((to_frame * (self._side / frame_size)).ravel())

    def __call__(self, values: np.ndarray, mode: Literal["RGB", "CMYK"]) -> np.ndarray:
        """The map at the nodes, uint8 [H', W', C]; NEUTRAL outside the frame.

        The mode `CMYK` stands for any four channels; with RGBA, Pillow would premultiply the last one.
        """
        picture = Image.frombytes(mode, values.shape[1::-1], np.ascontiguousarray(values).tobytes())
        fine = picture.resize((self._side,) * 2, Image.Resampling.BICUBIC)
        neutral = NEUTRAL[: values.shape[2]]
        if self.spacing > 1:
            # The nodes of a cell are at most 2.3 such pixels apart: none outside the frame gets a value from inside.
            fine = ImageOps.expand(ImageOps.crop(fine, _BORDER), _BORDER, neutral)
        turned = fine.transform(
            self._nodes, Image.Transform.AFFINE, self._coefficients, Image.Resampling.BILINEAR, fillcolor=neutral
        )
        return np.asarray(turned)


class Field:
    """Bilinear interpolation of a map f32 [H', W', C], C 1 or 3, from nodes `spacing` pixels apart to 3-channel pixels.

    Absolute values must not exceed LARGEST.
    """

    def __init__(self, nodes: np.ndarray, spacing: int) -> None:
        height, _, channels = nodes.shape
        between = np.arange(spacing) / spacing
        to_channels = np.eye(3) if channels == 3 else np.ones((1, 3))
        # From two nodes [2, C] to the pixels from the first node up to the second [spacing, 3].
        weights = np.einsum("nk,cd->nckd", _EIGHTHS * np.stack([1 - between, between]), to_channels)
        pairs = np.concatenate([nodes[:, :-1], nodes[:, 1:]], axis=2)
        # One small product per row: BLAS would spread a single large one over threads that serve other requests.
        across = pairs @ weights.reshape(2 * channels, -1).astype(np.float32)
        rows = np.rint(across, out=across).astype(np.int16).reshape(height, -1)  # [H', 3 W]
        # Intermediate sums may overflow int16. The results fit, and arithmetic modulo 2**16 is exact.
        self._steps = np.diff(rows, axis=0)
        self._starts = rows * np.int16(_EIGHTHS) + np.int16(_EIGHTHS**2 // 2)  # plus one half, for rounding
        self._between = (between * _EIGHTHS).astype(np.int16)[:, None]

    def rows(self, nodes: slice, columns: slice) -> np.ndarray:
        """The pixels of some rows of cells and some pixel columns, rounded to int16 [H, 3 W]."""
        across = slice(3 * columns.start, 3 * columns.stop)
        values = self._steps[nodes, None, across] * self._between
        values += self._starts[nodes, None, across]
        values >>= _EIGHTHS.bit_length() * 2 - 2
        return values.reshape(-1, values.shape[2])
