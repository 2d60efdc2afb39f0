"""Application of a face's flow: pixels of a photograph are replaced by those that the flow points to.

Few moving pixels are looked up one by one. Many are drawn in cells: each cell is the quadrilateral that the flow at its
corners points to. Interpolation is bicubic, and bilinear if there are very many pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.imaging import alignment, field_maps
from service.imaging.field_maps import Box, Field

# Shorter motions are ignored: in frame pixels, and the limits of that in the photograph's pixels.
_STILL, _LEAST_STILL, _MOST_STILL = 1 / 32, 1 / 32, 1 / 4
_FEW = 10_000  # moving pixels up to which each is looked up
_SHARP = 150_000  # moving pixels up to which interpolation is bicubic
_CELL = (8, 32)  # smallest and largest side of a cell, which is about two frame pixels


def move(photo: Image.Image, box: Box, matrix: np.ndarray, flow: np.ndarray, mask: np.ndarray, spacing: int) -> None:
    """Move pixels of an RGB photograph in place, where `mask` is above 0.

    `flow` f32 [S, S, 2] is relative to the side of the frame, whose coordinates `matrix` f64 [2, 3] maps to the
    photograph's. `mask` f32 [H', W', 1] is given at nodes `spacing` pixels apart, the first at the centre of the first
    pixel of `box`.
    """
    # From vectors in the frame to vectors in the photograph's pixels.
    vectors = flow @ (matrix[:, :2] * len(flow)).astype(np.float32).T
    lengths = _lengths(vectors)[:, :, None]
    scale = alignment.scale(matrix)
    still = min(max(_LEAST_STILL, _STILL * scale), _MOST_STILL)
    moving = lengths > still
    found = field_maps.region_of(matrix, moving, photo.size)
    part = None if found is None else _within(found, box, spacing)
    if part is None:
        return
    left, top, right, bottom = part
    first, count = ((top - box[1]) // spacing, (left - box[0]) // spacing), field_maps.nodes_over(part, spacing)
    local = matrix.copy()
    local[:, 2] -= part[:2]
    # The source pixels lie in that part or near it. They are copied before anything is changed.
    reach = int(np.ceil(lengths.max())) + 3
    west, north = max(0, left - reach), max(0, top - reach)
    motion = _Motion(
        photo,
        photo.crop((west, north, min(photo.width, right + reach), min(photo.height, bottom + reach))),
        np.array([left - west, top - north], dtype=np.float32),
        part,
        local,
        vectors,
        mask[first[0] : first[0] + count[0], first[1] : first[1] + count[1]],
        spacing,
        still,
    )
    pixels = float(moving.sum()) * scale**2
    if pixels <= _FEW:
        motion.look_up()
    else:
        motion.draw(Image.Resampling.BICUBIC if pixels <= _SHARP else Image.Resampling.BILINEAR)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    """The larger of the horizontal and the vertical part of vectors [H, W, 2], [H, W]."""
    # Many times as fast as a maximum along an axis of two values.
    return np.maximum(np.abs(vectors[:, :, 0]), np.abs(vectors[:, :, 1]))


def _within(part: Box, box: Box, spacing: int) -> Box | None:
    """The intersection with `box`, extended to the nodes of the box; None if it is empty."""
    left, top = (box[side] + max(0, part[side] - box[side]) // spacing * spacing for side in (0, 1))
    right, bottom = (
        min(box[side], box[side - 2] + -(-(part[side] - box[side - 2]) // spacing) * spacing) for side in (2, 3)
    )
    return (left, top, right, bottom) if left < right and top < bottom else None


@dataclass(frozen=True)
class _Motion:
    """The motion of one part of a photograph, `box`. `source` is a copy around it, in which its corner is at `shift`.

    `matrix` maps the frame's coordinates to those of the box; `vectors` f32 [S, S, 2] are in pixels.
    """

    photo: Image.Image
    source: Image.Image
    shift: np.ndarray
    box: Box
    matrix: np.ndarray
    vectors: np.ndarray
    mask: np.ndarray
    spacing: int
    still: float

    def look_up(self) -> None:
        """Look up each moving pixel."""
        at_nodes = field_maps.sampled(self.vectors, self.matrix, self.mask.shape[:2], self.spacing, 0.5)
        vectors, mask = Field(at_nodes, self.spacing), Field(self.mask, self.spacing)
        moves = (self.mask[:, :, 0] > 0) & (_lengths(at_nodes) > 0)
        pixels = np.asarray(self.source).astype(np.float32)
        for rows, columns, strip in field_maps.strips(moves, self.spacing, self.box):
            part = np.asarray(self.photo.crop(strip)).copy()
            height, width, _ = part.shape
            by = vectors.rows(rows, columns)[:height].reshape(height, width, 2)
            inside = mask.rows(rows, columns)[:height] > 0
            y, x = np.nonzero(inside & (_lengths(by) > self.still))
            points = by[y, x] + self.shift
            points += np.stack([x + strip[0] - self.box[0], y + strip[1] - self.box[1]], axis=1).astype(np.float32)
            part[y, x] = np.rint(_cubic(pixels, points)).clip(0, 255)
            self.photo.paste(Image.fromarray(part), strip[:2])

    def draw(self, resampling: Image.Resampling) -> None:
        """Draw cells of moving pixels."""
        left, top, right, bottom = self.box
        wide, high = right - left, bottom - top
        wanted = np.clip(2 * alignment.scale(self.matrix), *_CELL)
        side = max(1, round(wanted / self.spacing)) * self.spacing
        counts = field_maps.nodes_over(self.box, side)
        vectors = field_maps.sampled(self.vectors, self.matrix, counts, side, 0.0)
        rows, columns = np.mgrid[: counts[0], : counts[1]].astype(np.float32) * side
        corners = np.stack([columns, rows], axis=2) + vectors + self.shift
        corners = corners.clip(0, [self.source.width, self.source.height])
        moved = _lengths(vectors) > self.still
        moved = moved[:-1, :-1] | moved[:-1, 1:] | moved[1:, :-1] | moved[1:, 1:]
        mask = Field(self.mask, self.spacing)
        # The corners in Pillow's order: top left, bottom left, bottom right, top right.
        quads = np.concatenate([corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]], axis=2)
        for row in np.flatnonzero(moved.any(axis=1)).tolist():
            reached = np.flatnonzero(moved[row]).tolist()
            first, last = reached[0], reached[-1] + 1
            cells = [
                (((column - first) * side, 0, (column - first + 1) * side, side), quads[row, column].tolist())
                for column in reached
            ]
            drawn = self.source.transform(((last - first) * side, side), Image.Transform.MESH, cells, resampling)
            x, y = first * side, row * side
            width, height = min(last * side, wide) - x, min(y + side, high) - y
            strip = slice(y // self.spacing, -(-(y + height) // self.spacing))
            inside = mask.rows(strip, slice(x, x + width))[:height] > 0
            inside &= np.repeat(moved[row, first:last], side)[:width]
            within = Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0)))
            self.photo.paste(drawn.crop((0, 0, width, height)), (left + x, top + y), within)


def _cubic(pixels: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bicubic interpolation of f32 [H, W, 3] at `points` f32 [N, 2], x then y, integers at pixel centres; f32 [N, 3].

    Border pixels are repeated outside.
    """
    height, width, _ = pixels.shape
    first = np.floor(points).astype(np.int32)
    weights = _keys((points - first).astype(np.float32))  # [N, 2, 4]
    flat, total = pixels.reshape(-1, 3), np.zeros((len(points), 3), dtype=np.float32)
    columns = [(first[:, 0] + step).clip(0, width - 1) for step in range(-1, 3)]
    for down in range(4):
        row = (first[:, 1] + down - 1).clip(0, height - 1) * width
        line = np.zeros_like(total)
        for across in range(4):
            line += flat[row + columns[across]] * weights[:, 0, across, None]
        total += line * weights[:, 1, down, None]
    return total


def _keys(t: np.ndarray) -> np.ndarray:
    """The four weights of cubic interpolation (Keys 1981, a = -1/2) at fractions `t`; one more axis."""
    t2, t3 = t * t, t * t * t
    return np.stack(
        [-0.5 * t3 + t2 - 0.5 * t, 1.5 * t3 - 2.5 * t2 + 1, -1.5 * t3 + 2 * t2 + 0.5 * t, 0.5 * t3 - 0.5 * t2], axis=-1
    )
