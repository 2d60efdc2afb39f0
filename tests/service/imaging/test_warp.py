"""Maps between nodes are straight, rounded without bias, and end where the frame does."""

from __future__ import annotations

import numpy as np
import pytest

from service.imaging import alignment
from service.imaging.warp import LARGEST, NEUTRAL, Field, Warp


def turned(factor: float, angle: float = 0.3, x: float = 150.0, y: float = 130.0, size: int = 64) -> np.ndarray:
    matrix = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([matrix, [x, y] - matrix @ [size / 2, size / 2]])


@pytest.mark.parametrize("spacing", [1, 2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_between_nodes_a_field_is_straight(spacing, channels):
    rng = np.random.default_rng(0)
    nodes = rng.uniform(-LARGEST, LARGEST, (6, 5, channels)).astype(np.float32)
    found = Field(nodes, spacing).rows(slice(0, 5), slice(0, 4 * spacing)).reshape(5 * spacing, 4 * spacing, 3)
    rows, columns = np.arange(5 * spacing) / spacing, np.arange(4 * spacing) / spacing
    for channel in range(3):
        values = nodes[:, :, channel % channels]
        across = np.stack([np.interp(columns, np.arange(5), row) for row in values])
        expected = np.stack([np.interp(rows, np.arange(6), column) for column in across.T], axis=1)
        assert np.abs(found[:, :, channel] - expected).max() < 0.7


def test_a_part_of_a_field_is_that_part_of_the_whole():
    nodes = np.random.default_rng(1).uniform(-200, 200, (9, 7, 3)).astype(np.float32)
    field = Field(nodes, 4)
    whole = field.rows(slice(0, 8), slice(0, 24))
    assert np.array_equal(field.rows(slice(3, 5), slice(5, 18)), whole[12:20, 15:54])


def test_rounding_favours_neither_side():
    nodes = np.random.default_rng(2).uniform(-5, 5, (60, 60, 3)).astype(np.float32)
    forth, back = (Field(sign * nodes, 8).rows(slice(0, 59), slice(0, 472)).astype(float) for sign in (1, -1))
    assert abs((forth + back).mean()) < 0.04


@pytest.mark.parametrize(("factor", "spacing"), [(0.5, 1), (4.9, 1), (5.1, 2), (10.1, 4), (20.1, 8), (90.0, 8)])
def test_nodes_stay_dense_in_the_frame(factor, spacing):
    assert Warp(turned(factor), 64, (300, 260)).spacing == spacing


@pytest.mark.parametrize("factor", [1.5, 6.0, 24.0])
def test_a_map_arrives_where_its_transform_leads(factor):
    size, matrix = (240, 200), turned(factor, x=120.0, y=90.0)
    y, x = np.mgrid[:64, :64]
    warp = Warp(matrix, 64, size)
    nodes = warp(np.dstack([x * 3, y * 3, np.full_like(x, 7)]).astype(np.uint8), "RGB")
    found = Field(nodes.astype(np.float32), warp.spacing).rows(slice(0, len(nodes) - 1), slice(0, 240))
    found = found.reshape(-1, 240, 3)[:200]
    rows, columns = np.mgrid[:200, :240] + 0.5
    places = alignment.apply(alignment.inverse(matrix), np.stack([columns.ravel(), rows.ravel()], 1))
    inside = ((places > 4) & (places < 60)).all(axis=1).reshape(200, 240)
    expected = (3 * (places - 0.5)).reshape(200, 240, 2)
    assert inside.any()
    assert np.abs(found[:, :, :2] - expected)[inside].max() < 2


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("factor", [3.0, 6.0, 12.0, 24.0])
def test_outside_the_frame_there_is_nothing_even_between_nodes(factor, angle):
    size, matrix = (400, 400), turned(factor, angle, 200.0, 200.0, size=12)
    warp = Warp(matrix, 12, size)
    nodes = warp(np.full((12, 12, 4), 255, dtype=np.uint8), "CMYK")
    away = (nodes != NEUTRAL).any(axis=2, keepdims=True).astype(np.float32)
    found = Field(100 * away, warp.spacing).rows(slice(0, len(nodes) - 1), slice(0, 400)).reshape(-1, 400, 3)[:400]
    rows, columns = np.mgrid[:400, :400] + 0.5
    places = alignment.apply(alignment.inverse(matrix), np.stack([columns.ravel(), rows.ravel()], 1))
    outside = ((places < 0) | (places > 12)).any(axis=1).reshape(400, 400)
    assert found.any()
    assert not found[outside].any()
