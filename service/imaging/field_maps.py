"""Resampling of float maps from a frame to a photograph, by way of a grid of nodes.

A photograph may have a far higher resolution than the frame. Maps are sampled at nodes, and interpolated linearly
between them for one strip of the photograph at a time. They are never held at full resolution.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from service.imaging import alignment

_STRIP = 64  # rows of a photograph that are processed at once, so that they fit into the CPU's cache
_DENSE = 1.4  # least number of nodes per frame pixel, if the photograph has as many pixels
_SPACINGS = (16, 12, 8, 6, 4, 3, 2, 1)
_CHUNK = 16_384  # nodes that are computed at once
# Bicubic upsampling to twice the size spreads a value by two, and Pillow normalises anew kernels that an edge cuts off.
_REACH = 4

Box = tuple[int, int, int, int]


def spacing_of(matrix: np.ndarray) -> int:
    """Pixels between nodes, for a transform f64 [2, 3] from the frame to the photograph."""
    scale = alignment.scale(matrix)
    return next(spacing for spacing in _SPACINGS if spacing == 1 or spacing * _DENSE <= scale)


def nodes_over(box: Box, spacing: int) -> tuple[int, int]:
    """Rows and columns of nodes that cover a box, from its first pixel to its last or beyond."""
    left, top, right, bottom = box
    return -(-(bottom - top) // spacing) + 1, -(-(right - left) // spacing) + 1


def region_of(matrix: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> Box | None:
    """Left, top, right and bottom of the part of a picture of width and height `size` that a mask [S, S, 1] affects."""
    rows, columns = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    if not len(rows):
        return None
    # Interpolation spreads a value by two frame pixels, or by two pixels of the picture if they are larger.
    margin = 2 * max(1.0, 1 / alignment.scale(matrix))
    (x0, x1), (y0, y1) = ((found[0] - margin, found[-1] + 1 + margin) for found in (columns, rows))
    found = alignment.apply(matrix, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    left, top = np.floor(found.min(0)).astype(int).clip(0)
    right, bottom = np.minimum(np.ceil(found.max(0)).astype(int), size)
    return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None


class Field:
    """Bilinear interpolation of a map f32 [H', W', C] from nodes `spacing` pixels apart to pixels."""

    def __init__(self, nodes: np.ndarray, spacing: int) -> None:
        self._nodes, self._spacing = nodes, spacing
        self._between = (np.arange(spacing) / spacing).astype(np.float32)[:, None]

    def rows(self, nodes: slice, columns: slice) -> np.ndarray:
        """The pixels of some rows of cells and some pixel columns, f32 [H, C W].

        The columns are whole cells; only the last may be cut.
        """
        across = slice(columns.start // self._spacing, -(-columns.stop // self._spacing) + 1)
        part = self._nodes[nodes.start : nodes.stop + 1, across]
        if self._spacing == 1:
            return part[:-1, :-1].reshape(len(part) - 1, -1)
        between = self._between
        edges = part[:, :-1, None] + np.diff(part, axis=1)[:, :, None] * between  # [H' + 1, W', spacing, C]
        channels = part.shape[2]
        edges = edges.reshape(len(part), -1)[:, : channels * (columns.stop - columns.start)]
        values = np.diff(edges, axis=0)[:, None] * between
        values += edges[:-1, None]
        return values.reshape(-1, values.shape[2])


def strips(touched: np.ndarray, spacing: int, region: Box) -> Iterator[tuple[slice, slice, Box]]:
    """Rows of nodes, columns of pixels and box in the photograph, of each strip with nodes in `touched` [H', W']."""
    left, top, right, bottom = region
    rows = max(1, _STRIP // spacing)
    for first in range(0, len(touched) - 1, rows):
        reached = np.flatnonzero(touched[first : first + rows + 1].any(axis=0))
        if not len(reached):
            continue
        last = min(first + rows, len(touched) - 1)
        start, stop = max(0, int(reached[0]) - 1) * spacing, min((int(reached[-1]) + 1) * spacing, right - left)
        y = top + first * spacing
        box = (left + start, y, left + stop, min(y + (last - first) * spacing, bottom))
        yield slice(first, last), slice(start, stop), box


def sampled(maps: np.ndarray, matrix: np.ndarray, counts: tuple[int, int], spacing: int, shift: float) -> np.ndarray:
    """Maps f32 [S, S, C] of a frame, sampled at nodes of the picture to which `matrix` maps it, f32 [H', W', C].

    `counts` are the rows and columns of nodes, `spacing` pixels apart, the first at (`shift`, `shift`). Values outside
    the frame are 0. If the picture has the lower resolution, maps are averaged first; else they are doubled smoothly.
    """
    size, scale = len(maps), alignment.scale(matrix)
    factor = 2.0 if scale > 1 else 1 / max(1, min(round(1 / scale), size))
    part = _nonzero(maps, 1 if factor == 2 else round(1 / factor))
    planes = np.ascontiguousarray(maps[part].transpose(2, 0, 1))
    planes = _doubled(planes) if factor == 2 else _averaged(planes, round(1 / factor))
    # Values are at pixel centres, and there is one pixel of padding.
    padded = np.pad(planes, ((0, 0), (1, 1), (1, 1)))
    _, high, wide = padded.shape
    channels = padded.reshape(len(planes), high * wide)
    to_planes = alignment.inverse(matrix) * factor
    to_planes[:, 2] += 0.5 - factor * np.array([part[1].start, part[0].start])
    to_planes = to_planes.astype(np.float32)
    columns = np.arange(counts[1], dtype=np.float32) * spacing + np.float32(shift)
    values = np.empty((*counts, len(channels)), dtype=np.float32)
    step = max(1, _CHUNK // counts[1])
    for start in range(0, counts[0], step):
        rows = np.arange(start, min(start + step, counts[0]), dtype=np.float32)[:, None] * spacing + np.float32(shift)
        x, y = (each[0] * columns + (each[1] * rows + each[2]) for each in to_planes)
        x, y = x.clip(0, wide - 1.001), y.clip(0, high - 1.001)
        first_x, first_y = x.astype(np.intp), y.astype(np.intp)
        x -= first_x
        y -= first_y
        indices = first_y * wide + first_x
        for channel, flat in enumerate(channels):
            above, below = flat.take(indices), flat.take(indices + wide)
            above += (flat.take(indices + 1) - above) * x
            below += (flat.take(indices + (wide + 1)) - below) * x
            values[start : start + step, :, channel] = above + (below - above) * y
    return values


def _nonzero(maps: np.ndarray, step: int) -> tuple[slice, slice]:
    """Rows and columns of maps f32 [S, S, C] that are not 0 or near such ones, in squares of `step` pixels.

    Of maps that are 0 everywhere, a corner.
    """
    present = maps.any(axis=2)

    def extent(axis: int) -> slice:
        where = np.flatnonzero(present.any(axis=axis))
        first, last = (int(where[0]), int(where[-1]) + 1) if len(where) else (0, 1)
        return slice(max(0, first // step - _REACH) * step, min((-(-last // step) + _REACH) * step, len(maps)))

    return extent(1), extent(0)


def _doubled(planes: np.ndarray) -> np.ndarray:
    """Bicubic upsampling (Keys 1981, a = -1/2) of f32 [C, H, W] to [C, 2 H, 2 W]."""
    size = (2 * planes.shape[2], 2 * planes.shape[1])
    return np.stack([Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC) for plane in planes])


def _averaged(planes: np.ndarray, factor: int) -> np.ndarray:
    """Means of f32 [C, H, W] over squares of `factor` pixels; incomplete squares are padded with zeros."""
    if factor == 1:
        return planes
    planes = np.pad(planes, ((0, 0), *((0, -length % factor) for length in planes.shape[1:])))
    count, high, wide = planes.shape
    return planes.reshape(count, high // factor, factor, wide // factor, factor).mean(axis=(2, 4))
