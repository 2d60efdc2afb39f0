"""An edit reaches the photograph where and as strong as the editor meant it, at the photograph's own resolution."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.imaging import alignment, field_maps, flow
from service.imaging.compositing import FieldEdit, composite
from service.imaging.edit_fields import EditFields
from service.imaging.tone import GREY
from tests.service.imaging.test_paste import SIZE, TRANSFORMS, picture, transform


def blob(x=32.0, y=32.0, radius=9.0, level=1.0) -> np.ndarray:
    """A soft mask f32 [S, S, 1] that ends."""
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    distance = np.hypot(columns - x, rows - y) / radius
    return (level * np.clip(1.5 - distance, 0, 1)).astype(np.float32)[:, :, None]


def fields(mask, gain=0.0, residual=0.0, by=(0.0, 0.0)) -> EditFields:
    def plane(value, channels):
        return np.broadcast_to(np.float32(value), (SIZE, SIZE, channels)).copy()

    return EditFields(mask, plane(gain, 3), plane(residual, 3), plane(by, 2) * mask)


def edited(taken, matrix, *args, tone=None, **kwargs) -> np.ndarray:
    return np.asarray(composite(Image.fromarray(taken), [FieldEdit(matrix, fields(*args, **kwargs))], tone))


def distances(matrix, shape, x=32.0, y=32.0) -> np.ndarray:
    """Of each pixel of the photograph from a point of the frame, in the frame's pixels."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    places = alignment.apply(alignment.inverse(matrix), np.stack([columns.ravel(), rows.ravel()], 1))
    return np.linalg.norm(places - [x, y], axis=1).reshape(rows.shape)


def reference(taken: np.ndarray, matrix: np.ndarray, each: EditFields) -> np.ndarray:
    """The same, pixel by pixel and plainly; f64 [H, W, 3]."""
    settled = each.settled()
    height, width, _ = taken.shape
    rows, columns = np.mgrid[:height, :width] + 0.5
    places = alignment.apply(alignment.inverse(matrix), np.stack([columns.ravel(), rows.ravel()], 1)) - 0.5

    def looked_up(values, at):
        first = np.floor(at).astype(int)
        share = at - first
        inside = np.pad(values, ((1, 1), (1, 1), (0, 0)))
        x, y = (first + 1).clip(0, np.array(values.shape[1::-1])).T
        across, down = share[:, :1], share[:, 1:]
        above = inside[y, x] * (1 - across) + inside[y, x + 1] * across
        below = inside[y + 1, x] * (1 - across) + inside[y + 1, x + 1] * across
        return above * (1 - down) + below * down

    outside = ((places < -1) | (places > SIZE)).any(axis=1)[:, None]
    mask = np.where(outside, 0, looked_up(settled.mask.astype(float), places))
    gain, residual = (looked_up((settled.mask * f).astype(float), places) for f in (settled.gain, settled.residual))
    vectors = looked_up(settled.flow.astype(float), places) @ (matrix[:, :2] * SIZE).T
    edge = np.pad(taken.astype(float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    at = np.stack([columns.ravel(), rows.ravel()], 1) - 0.5 + np.where(mask > 0, vectors, 0)
    at = at.clip(0, [width - 1, height - 1])
    first = np.floor(at).astype(int)
    share, (x, y) = at - first, (first + 1).T
    moved = (edge[y, x] * (1 - share[:, :1]) + edge[y, x + 1] * share[:, :1]) * (1 - share[:, 1:])
    moved += (edge[y + 1, x] * (1 - share[:, :1]) + edge[y + 1, x + 1] * share[:, :1]) * share[:, 1:]
    result = moved * (1 + np.where(outside, 0, gain)) + 255 * np.where(outside, 0, residual)
    return result.reshape(taken.shape).clip(0, 255)


@pytest.mark.parametrize("matrix", TRANSFORMS)
def test_a_mask_of_zeros_changes_no_pixel(matrix):
    taken = picture()
    assert np.array_equal(edited(taken, matrix, 0 * blob(), 1.0, 1.0, (0.1, 0.1)), taken)


@pytest.mark.parametrize("matrix", TRANSFORMS)
@pytest.mark.parametrize("by", [(0.0, 0.0), (0.06, -0.04)])
def test_nothing_changes_where_the_mask_is_zero(matrix, by):
    taken = picture()
    result = edited(taken, matrix, blob(radius=6), 0.3, 0.1, by)
    far = distances(matrix, taken.shape) > 6 * 1.5 + 2.5 * max(1, 1 / alignment.scale(matrix))
    assert (result != taken).any()
    assert np.array_equal(result[far], taken[far])


@pytest.mark.parametrize("matrix", [*TRANSFORMS, transform(factor=9.0, x=100.0)])
@pytest.mark.parametrize("by", [(0.0, 0.0), (0.05, -0.03)])
def test_it_gives_what_a_plain_computation_gives(matrix, by):
    taken = picture(detail=0)
    each = fields(blob(radius=12), 0.2, -0.05, by)
    result = np.asarray(composite(Image.fromarray(taken), [FieldEdit(matrix, each)]))
    difference = np.abs(result - reference(taken, matrix, each))
    assert difference.mean() < 0.6  # what moved is rounded before it is coloured
    assert np.percentile(difference, 99.5) < 4  # interpolation is cubic here and linear there


@pytest.mark.parametrize("matrix", TRANSFORMS[:3])
def test_gain_carries_the_photographs_own_texture(matrix):
    """Detail that a frame pixel cannot hold is multiplied too."""
    taken = picture(detail=30)
    result = edited(taken, matrix, blob(radius=14), 0.25)
    inner = distances(matrix, taken.shape) < 6
    expected = 1.25 * taken[inner].astype(float)
    keeps = expected < 250
    assert np.abs(result[inner] - expected)[keeps].max() <= 1


@pytest.mark.parametrize("angle", [0.0, 0.5, np.pi])
@pytest.mark.parametrize("factor", [1.5, 6.0])
def test_flow_turns_and_grows_with_the_face(monkeypatch, angle, factor):
    """A step edge of the photograph moves by the flow's length in its own pixels, in the face's own direction."""
    # Where cells are drawn Pillow cuts off fractions of levels: half a level, so a pixel of this ramp.
    monkeypatch.setattr(flow, "_FEW", 10**9)
    matrix = transform(angle=angle, factor=factor)
    ramp = np.arange(300) * 0.5 + 40  # so that a place tells itself
    taken = np.broadcast_to(ramp[None, :, None], (260, 300, 3)).round().astype(np.uint8)
    result = edited(taken, matrix, blob(radius=14), by=(0.05, 0.0))
    x, y = alignment.apply(matrix, np.array([[32.0, 32.0]]))[0].astype(int)
    shift = (result[y - 2 : y + 3, x - 2 : x + 3].astype(float) - taken[y - 2 : y + 3, x - 2 : x + 3]).mean() / 0.5
    mask = blob(radius=14)[32, 32, 0]
    assert shift == pytest.approx(mask * 0.05 * SIZE * factor * np.cos(angle), abs=1.2)


def test_a_large_moving_part_is_drawn_in_cells_as_a_small_one_is_looked_up(monkeypatch):
    taken, matrix = picture(600, 700, detail=0), transform(factor=8.0, x=350.0, y=300.0)
    each = [FieldEdit(matrix, fields(blob(radius=12), 0.1, 0.0, (0.04, 0.05)))]
    cells = np.asarray(composite(Image.fromarray(taken), each)).astype(int)
    monkeypatch.setattr(flow, "_FEW", 10**9)
    one_by_one = np.asarray(composite(Image.fromarray(taken), each)).astype(int)
    assert (cells != taken).any()
    assert np.abs(cells - one_by_one).max() <= 3
    assert np.array_equal((cells != taken).any(axis=2)[:50], (one_by_one != taken).any(axis=2)[:50])


def test_strips_and_chunks_leave_no_trace(monkeypatch):
    taken, matrix = picture(400, 500), transform(factor=5.0, angle=0.3, x=250.0, y=200.0)
    whole = edited(taken, matrix, blob(radius=14), 0.3, -0.1, (0.02, 0.01))
    monkeypatch.setattr(field_maps, "_STRIP", 8)
    monkeypatch.setattr(field_maps, "_CHUNK", 64)
    assert np.array_equal(edited(taken, matrix, blob(radius=14), 0.3, -0.1, (0.02, 0.01)), whole)


@pytest.mark.parametrize("matrix", TRANSFORMS[:3])
def test_there_is_no_seam_at_the_frames_border(matrix):
    """A mask that reaches it fades out there."""
    taken = picture(detail=0)
    result = edited(taken, matrix, np.ones((SIZE, SIZE, 1), np.float32), 0.0, 0.2).astype(int)
    steps = max(np.abs(np.diff(result - taken, axis=axis)).max() for axis in (0, 1))
    assert (result != taken).any()
    assert steps <= 0.2 * 255 * 0.8 / alignment.scale(matrix) + 2


def test_of_a_grey_photograph_the_luminance_alone_changes():
    grey = np.repeat(picture()[:, :, :1], 3, axis=2)
    colours = fields(blob())
    colours.gain[:, :, 0], colours.residual[:, :, 2] = 0.5, 0.3
    result = np.asarray(composite(Image.fromarray(grey), [FieldEdit(transform(), colours)], GREY))
    assert (result != grey).any()
    assert (result[:, :, 0] == result[:, :, 1]).all()
    assert (result[:, :, 1] == result[:, :, 2]).all()
    x, y = 150, 130
    expected = grey[y, x, 0] * (1 + 0.5 * 0.299) + 255 * 0.3 * 0.114
    assert result[y, x, 0] == pytest.approx(expected, abs=1)


def test_a_frame_beside_the_photograph_changes_nothing():
    assert np.array_equal(edited(picture(), transform(x=900.0), blob(), 0.5), picture())


def test_the_photograph_itself_is_left_as_it_is():
    taken = Image.fromarray(picture())
    composite(taken, [FieldEdit(transform(), fields(blob(), 0.5))])
    assert np.array_equal(np.asarray(taken), picture())


def test_the_same_edit_of_a_smaller_photograph():
    small = picture(130, 150, detail=0)
    half = FieldEdit(transform(factor=3.0), fields(blob(), 0.0, 0.2)).resized(np.array([[0.5], [0.5]]))
    result = np.asarray(composite(Image.fromarray(small), [half])).astype(int) - small
    assert result[65, 75].tolist() == [51] * 3  # the blob's middle, at half of (150, 130)


@pytest.mark.parametrize("scale", [0.08, 0.3, 0.9, 1.5, 6.0])
def test_where_maps_are_zero_makes_no_difference(scale: float):
    maps = np.zeros((64, 64, 2), dtype=np.float32)
    maps[17:30, 40:59] = np.random.default_rng(3).normal(size=(13, 19, 2))
    whole = maps.copy()
    whole[0, 0] = whole[-1, -1] = 1e-30  # so that no part of it is left out
    matrix = scale * np.array([[0.95, -0.31, 3.0], [0.31, 0.95, 20.0]])
    spacing = field_maps.spacing_of(matrix)
    counts = field_maps.nodes_over((0, 0, 2 + round(80 * scale), 2 + round(100 * scale)), spacing)
    found, expected = (field_maps.sampled(each, matrix, counts, spacing, 0.5) for each in (maps, whole))
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_maps_of_nothing_are_nothing():
    matrix = np.array([[3.0, 0.0, 5.0], [0.0, 3.0, 7.0]])
    found = field_maps.sampled(np.zeros((16, 16, 3), dtype=np.float32), matrix, (9, 8), 2, 0.5)
    assert found.shape == (9, 8, 3)
    assert not found.any()
