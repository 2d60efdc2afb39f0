"""Edit fields applied to the photograph that a face lies in, at the photograph's own resolution.

Fields are as fine as the editor's frame, a photograph may be far finer. They are carried to nodes some pixels apart and
go straight from node to node, strip by strip, so that the photograph's own detail stays and a map of all of a large
face's pixels never exists.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service import alignment
from service.edit_fields import EditFields

_STRIP = 64  # rows of a photograph that are edited at a time, so that they stay in the processor's cache
_DENSE = 1.4  # nodes to a frame pixel, at least, where the photograph has as many pixels
_SPACINGS = (16, 8, 4, 2, 1)
_CHUNK = 16_384  # nodes that are computed together
_STILL = 1 / 32  # of a pixel: what moves less does not move
_FEW = 60_000  # moved pixels that are looked up one by one, with a flow for each
_SHARP = 150_000  # moved pixels that can be taken by cubic interpolation in time

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class FieldEdit:
    """One face's edit: `matrix` f64 [2, 3] takes its frame's coordinates to the photograph's (service.alignment)."""

    matrix: np.ndarray
    fields: EditFields

    def onto(self, photo: Image.Image, grey: bool = False) -> None:
        """Edit an RGB photograph in place; of a `grey` one, whose channels are equal, the luminance alone.

        Nothing changes where the mask is 0, nor outside the frame.
        """
        fields = self.fields.settled()
        fields = fields.grey() if grey else fields
        region = _region(self.matrix, fields.mask, photo.size)
        if region is None:
            return
        local = self.matrix.copy()
        local[:, 2] -= region[:2]
        nodes = _Nodes.over(fields, local, region)
        if fields.flow.any():
            _move(photo, region, local, fields, nodes)
        _recolour(photo, region, nodes)

    def resized(self, factors: np.ndarray) -> FieldEdit:
        """The same edit of a picture that is larger by `factors` f64 [2, 1], across and down."""
        return FieldEdit(self.matrix * factors, self.fields)


def composite(photo: Image.Image, edits: Iterable[FieldEdit], grey: bool = False) -> Image.Image:
    """The photograph with the edits of its faces, one after the other; the photograph itself is left as it is."""
    result = photo.copy()
    for edit in edits:
        edit.onto(result, grey)
    return result


@dataclass(frozen=True)
class _Nodes:
    """Fields at nodes `spacing` pixels apart, the first at the centre of the region's first pixel: [H', W', C]."""

    spacing: int
    mask: np.ndarray  # [H', W', 1]
    gain: np.ndarray  # [H', W', 3], with the mask in it
    residual: np.ndarray  # [H', W', 3], in levels, with the mask in it

    @classmethod
    def over(cls, fields: EditFields, matrix: np.ndarray, region: Box) -> _Nodes:
        scale = alignment.scale(matrix)
        spacing = next(spacing for spacing in _SPACINGS if spacing == 1 or spacing * _DENSE <= scale)
        left, top, right, bottom = region
        counts = (-(-(bottom - top) // spacing) + 1, -(-(right - left) // spacing) + 1)
        mask = fields.mask
        maps = np.concatenate([mask, mask * fields.gain, 255 * mask * fields.residual], axis=2)
        values = _sampled(maps, matrix, counts, spacing, 0.5)
        # Smooth interpolation swings beyond where a map ends.
        values *= values[:, :, :1] > 0
        return cls(spacing, values[:, :, :1], values[:, :, 1:4], values[:, :, 4:])


class _Field:
    """A map f32 [H', W', C] of nodes `spacing` pixels apart, at the pixels between them."""

    def __init__(self, nodes: np.ndarray, spacing: int) -> None:
        self._nodes, self._spacing = nodes, spacing
        self._between = (np.arange(spacing) / spacing).astype(np.float32)[:, None]

    def rows(self, nodes: slice, columns: slice) -> np.ndarray:
        """f32 [H, C W]: from the first of the rows of nodes to the one after the last, at those pixels.

        The columns are whole cells, but for the last.
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


def _strips(touched: np.ndarray, spacing: int, region: Box) -> Iterator[tuple[slice, slice, Box]]:
    """Rows of nodes, columns of pixels, and the box in the photograph, of every strip that nodes [H', W'] touch."""
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


def _recolour(photo: Image.Image, region: Box, nodes: _Nodes) -> None:
    """Multiply by 1 + gain and add the residual."""
    gain = _Field(1 + nodes.gain, nodes.spacing)
    residual = _Field(nodes.residual + np.float32(0.5), nodes.spacing)  # a half, to be rounded
    for rows, columns, box in _strips(nodes.mask[:, :, 0] > 0, nodes.spacing, region):
        part = np.asarray(photo.crop(box))
        height, width, _ = part.shape
        result = part.reshape(height, -1) * gain.rows(rows, columns)[:height]
        result += residual.rows(rows, columns)[:height]
        np.clip(result, 0, 255.5, out=result)
        photo.paste(Image.fromarray(result.astype(np.uint8).reshape(height, width, 3)), box[:2])


def _move(photo: Image.Image, region: Box, matrix: np.ndarray, fields: EditFields, nodes: _Nodes) -> None:
    """Take each pixel of the mask from where the flow points."""
    left, top, right, bottom = region
    # Vectors of the frame, in shares of it, turned and stretched to the photograph's pixels.
    to_pixels = (matrix[:, :2] * fields.size).astype(np.float32)
    flow = fields.flow @ to_pixels.T
    scale = alignment.scale(matrix)
    reach = int(np.ceil(np.abs(flow).max())) + 3
    moving = float((np.abs(flow).max(axis=2) > _STILL).sum()) * scale**2
    if moving == 0:
        return
    # What is taken lies in the region or near it, and is read as it was before.
    west, north = max(0, left - reach), max(0, top - reach)
    source = photo.crop((west, north, min(photo.width, right + reach), min(photo.height, bottom + reach)))
    shift = np.array([left - west, top - north], dtype=np.float32)
    if moving <= _FEW:
        _look_up(photo, source, shift, region, matrix, flow, nodes)
    else:
        _draw_over(photo, source, shift, region, matrix, flow, nodes, moving)


def _look_up(photo, source, shift, region, matrix, flow, nodes) -> None:
    """One by one, by cubic interpolation."""
    field = _Field(_sampled(flow, matrix, nodes.mask.shape[:2], nodes.spacing, 0.5), nodes.spacing)
    mask = _Field(nodes.mask, nodes.spacing)
    pixels = np.asarray(source).astype(np.float32)
    for rows, columns, box in _strips(nodes.mask[:, :, 0] > 0, nodes.spacing, region):
        width, height = box[2] - box[0], box[3] - box[1]
        vectors = field.rows(rows, columns)[:height].reshape(height, width, 2)
        inside = mask.rows(rows, columns)[:height] > 0
        y, x = np.nonzero(inside & (np.abs(vectors).max(axis=2) > _STILL))
        if not len(y):
            continue
        part = np.asarray(photo.crop(box)).copy()
        places = vectors[y, x] + shift + np.stack([x + box[0] - region[0], y + box[1] - region[1]], axis=1)
        part[y, x] = np.rint(_cubic(pixels, places)).clip(0, 255)
        photo.paste(Image.fromarray(part), box[:2])


def _cubic(pixels: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Pixels f32 [H, W, 3] at `places` f32 [N, 2], x and y where whole numbers are centres; f32 [N, 3]. (Keys 1981)

    Beyond the border its pixels continue.
    """
    height, width, _ = pixels.shape
    first = np.floor(places).astype(np.int32)
    weights = _keys((places - first).astype(np.float32))  # [N, 2, 4]
    flat, total = pixels.reshape(-1, 3), np.zeros((len(places), 3), dtype=np.float32)
    columns = [(first[:, 0] + step).clip(0, width - 1) for step in range(-1, 3)]
    for down in range(4):
        row = (first[:, 1] + down - 1).clip(0, height - 1) * width
        line = np.zeros_like(total)
        for across in range(4):
            line += flat[row + columns[across]] * weights[:, 0, across, None]
        total += line * weights[:, 1, down, None]
    return total


def _keys(t: np.ndarray) -> np.ndarray:
    """The four weights of cubic interpolation (a = -1/2) at fractions `t`; one more axis."""
    t2, t3 = t * t, t * t * t
    return np.stack(
        [-0.5 * t3 + t2 - 0.5 * t, 1.5 * t3 - 2.5 * t2 + 1, -1.5 * t3 + 2 * t2 + 0.5 * t, 0.5 * t3 - 0.5 * t2], axis=-1
    )


def _draw_over(photo, source, shift, region, matrix, flow, nodes, moving) -> None:
    """In cells, each from the quadrilateral that the flow at its corners points to."""
    left, top, right, bottom = region
    side = int(np.clip(2 * alignment.scale(matrix), 8, 32)) // nodes.spacing * nodes.spacing
    counts = (-(-(bottom - top) // side) + 1, -(-(right - left) // side) + 1)
    vectors = _sampled(flow, matrix, counts, side, 0.0)
    rows, columns = np.mgrid[: counts[0], : counts[1]].astype(np.float32) * side
    corners = np.stack([columns, rows], axis=2) + vectors + shift
    corners = corners.clip(0, [source.width, source.height])
    moved = np.abs(vectors).max(axis=2) > _STILL
    moved = moved[:-1, :-1] | moved[:-1, 1:] | moved[1:, :-1] | moved[1:, 1:]
    mask = _Field(nodes.mask, nodes.spacing)
    resampling = Image.Resampling.BICUBIC if moving <= _SHARP else Image.Resampling.BILINEAR
    # Clockwise from the corner at the top left would be wrong: Pillow goes down first.
    quads = np.concatenate([corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]], axis=2)
    for row in np.flatnonzero(moved.any(axis=1)):
        reached = np.flatnonzero(moved[row])
        first, last = int(reached[0]), int(reached[-1]) + 1
        width, height = (last - first) * side, side
        cells = [
            ((place * side, 0, (place + 1) * side, side), quads[row, first + place].tolist())
            for place in (reached - first).tolist()
        ]
        drawn = source.transform((width, height), Image.Transform.MESH, cells, resampling)
        box = (first * side, int(row) * side, min(last * side, right - left), min((int(row) + 1) * side, bottom - top))
        strip = slice(box[1] // nodes.spacing, -(-box[3] // nodes.spacing))
        inside = mask.rows(strip, slice(box[0], box[2]))[: box[3] - box[1]] > 0
        inside &= np.repeat(moved[row, first:last], side)[: box[2] - box[0]]
        drawn = drawn.crop((0, 0, box[2] - box[0], box[3] - box[1]))
        photo.paste(drawn, (left + box[0], top + box[1]), Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)))


def _sampled(maps: np.ndarray, matrix: np.ndarray, counts: tuple[int, int], spacing: int, shift: float) -> np.ndarray:
    """Maps f32 [S, S, C] of a frame at places of a picture to which `matrix` leads, f32 [H', W', C]; 0 outside.

    There are `counts` of them, rows and columns, `spacing` pixels apart, the first at (`shift`, `shift`). Where the
    picture is the coarser one, maps are averaged first, and interpolated smoothly where it is the finer one.
    """
    size, scale = len(maps), alignment.scale(matrix)
    factor = 2.0 if scale > 1 else 1 / max(1, min(round(1 / scale), size))
    maps = _doubled(maps) if factor == 2 else _averaged(maps, round(1 / factor))
    padded = np.pad(maps, ((1, 1), (1, 1), (0, 0)))
    side = len(padded)
    channels = np.ascontiguousarray(padded.transpose(2, 0, 1)).reshape(-1, side * side)
    to_frame = (alignment.inverse(matrix) * factor).astype(np.float32)
    columns = np.arange(counts[1], dtype=np.float32) * spacing + np.float32(shift)
    values = np.empty((*counts, len(channels)), dtype=np.float32)
    step = max(1, _CHUNK // counts[1])
    for start in range(0, counts[0], step):
        rows = np.arange(start, min(start + step, counts[0]), dtype=np.float32)[:, None] * spacing + np.float32(shift)
        # A value stands at the centre of its pixel, and one pixel of zeros before all.
        x, y = (
            (to_frame[axis, 0] * columns + (to_frame[axis, 1] * rows + (to_frame[axis, 2] + np.float32(0.5))))
            for axis in (0, 1)
        )
        x, y = x.clip(0, side - 1.001), y.clip(0, side - 1.001)
        first_x, first_y = x.astype(np.intp), y.astype(np.intp)
        x -= first_x
        y -= first_y
        places = first_y * side + first_x
        for channel, flat in enumerate(channels):
            above, below = flat.take(places), flat.take(places + side)
            above += (flat.take(places + 1) - above) * x
            below += (flat.take(places + (side + 1)) - below) * x
            values[start : start + step, :, channel] = above + (below - above) * y
    return values


def _doubled(maps: np.ndarray) -> np.ndarray:
    """Twice as many pixels, by cubic interpolation; [2 S, 2 S, C]."""
    early, late = _keys(np.float32(0.75)), _keys(np.float32(0.25))
    for axis in (0, 1):
        count = maps.shape[axis]
        near = [maps.take((np.arange(count) + step).clip(0, count - 1), axis) for step in range(-2, 3)]
        first = sum(weight * each for weight, each in zip(early, near[:4], strict=True))
        second = sum(weight * each for weight, each in zip(late, near[1:], strict=True))
        halves = np.stack([first, second], axis=axis + 1)
        maps = halves.reshape(*maps.shape[:axis], 2 * count, *maps.shape[axis + 1 :])
    return maps


def _averaged(maps: np.ndarray, factor: int) -> np.ndarray:
    """Means of squares of `factor` pixels; what is left over at the end counts with zeros."""
    if factor == 1:
        return maps
    beyond = -len(maps) % factor
    maps = np.pad(maps, ((0, beyond), (0, beyond), (0, 0)))
    side = len(maps) // factor
    return maps.reshape(side, factor, side, factor, -1).mean(axis=(1, 3))


def _region(matrix: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> Box | None:
    """Left, top, right and bottom of the part of a picture of that width and height which a mask [S, S, 1] reaches."""
    rows, columns = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    if not len(rows):
        return None
    # Interpolation carries a value two pixels far, and averages two of the picture's.
    margin = 2 * max(1.0, 1 / alignment.scale(matrix))
    (x0, x1), (y0, y1) = ((found[0] - margin, found[-1] + 1 + margin) for found in (columns, rows))
    found = alignment.apply(matrix, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
    left, top = np.floor(found.min(0)).astype(int).clip(0)
    right, bottom = np.minimum(np.ceil(found.max(0)).astype(int), size)
    return (int(left), int(top), int(right), int(bottom)) if left < right and top < bottom else None
