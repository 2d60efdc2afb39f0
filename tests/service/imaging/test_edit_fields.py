"""What fields do to the picture that the editor saw."""

from __future__ import annotations

import numpy as np
import pytest

from service.imaging import edit_fields
from service.imaging.edit_fields import EditFields

SIZE = 32


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 220, (SIZE, SIZE, 3), dtype=np.uint8)


def fields(mask=0.0, gain=0.0, residual=0.0, flow=(0.0, 0.0)) -> EditFields:
    def plane(value, channels):
        return np.broadcast_to(np.float32(value), (SIZE, SIZE, channels)).copy()

    return EditFields(plane(mask, 1), plane(gain, 3), plane(residual, 3), plane(flow, 2))


def middle(values: np.ndarray) -> np.ndarray:
    """Where nothing fades towards the frame's border."""
    return values[8:-8, 8:-8]


def test_without_a_mask_nothing_changes():
    assert np.array_equal(edit_fields.apply(picture(), fields(0, 1, 1, (0.2, 0.1))), picture())


def test_a_mask_that_is_faint_is_none():
    assert np.array_equal(edit_fields.apply(picture(), fields(0.015, 1, 1, (0.2, 0.1))), picture())


def test_gain_multiplies_and_residual_adds_as_far_as_the_mask_says():
    edited = middle(edit_fields.apply(picture(), fields(1, 0.1, 0.05)))
    expected = 1.1 * middle(picture()) + 0.05 * 255
    assert np.abs(edited - expected).max() <= 0.51
    half = middle(edit_fields.apply(picture(), fields(0.51, 0.1, 0.05)))  # a half, above what is faint
    assert np.abs(half - (middle(picture()) + expected) / 2).max() <= 0.51


def test_what_would_be_brighter_than_white_is_white():
    assert (middle(edit_fields.apply(picture(), fields(1, 1, 1))) == 255).all()
    assert (middle(edit_fields.apply(picture(), fields(1, -1, -1))) == 0).all()


def test_flow_says_where_a_pixel_is_taken_from():
    edited = edit_fields.apply(picture(), fields(1, flow=(2 / SIZE, -1 / SIZE)))
    assert np.array_equal(middle(edited), picture()[7:-9, 10:-6])


def test_flow_takes_halves_of_two_pixels():
    edited = middle(edit_fields.apply(picture(), fields(1, flow=(0.5 / SIZE, 0)))).astype(float)
    expected = (picture()[8:-8, 8:-8].astype(float) + picture()[8:-8, 9:-7]) / 2
    assert np.abs(edited - expected).max() <= 0.51


def test_an_edit_fades_out_at_the_frames_border_and_reaches_no_pixel_of_it():
    edited = edit_fields.apply(picture(), fields(1, 0, 0.1))
    change = edited.astype(int) - picture()
    assert not change[0].any()
    assert not change[:, -1].any()
    assert (change[4:-4, 4:-4] >= 25).all()


def test_flow_fades_in_proportion_to_the_mask():
    settled = fields(0.11, flow=(0.1, 0.05)).settled()
    share = middle(settled.mask) / 0.11
    np.testing.assert_allclose(middle(settled.flow), share * np.array([0.1, 0.05], dtype=np.float32), rtol=1e-5)


def test_in_grey_the_luminance_of_an_edit_is_left():
    rng = np.random.default_rng(3)
    colourful = EditFields(
        np.ones((SIZE, SIZE, 1), np.float32),
        rng.uniform(-0.2, 0.2, (SIZE, SIZE, 3)).astype(np.float32),
        rng.uniform(-0.1, 0.1, (SIZE, SIZE, 3)).astype(np.float32),
        np.zeros((SIZE, SIZE, 2), np.float32),
    )
    grey = np.repeat(picture()[:, :, :1], 3, axis=2) // 2 + 50  # so that nothing is clipped
    found = edit_fields.apply(grey, colourful.grey())
    assert (found[:, :, 0] == found[:, :, 1]).all()
    assert (found[:, :, 1] == found[:, :, 2]).all()
    luma = edit_fields.apply(grey, colourful) @ edit_fields.LUMA
    assert np.abs(found[:, :, 0] - luma).max() <= 1.01


def test_outputs_are_split_by_face():
    outputs = {
        name: np.stack([getattr(fields(m, m, m, (m, m)), name) for m in (0.25, 0.5)]) for name in edit_fields.NAMES
    }
    first, second = edit_fields.split(outputs)
    assert (first.mask == 0.25).all()
    assert (second.flow == 0.5).all()
    assert second.size == SIZE


@pytest.mark.parametrize("flow", [(0.5, 0.5), (-0.5, 0.3)])
def test_beyond_the_border_its_pixels_continue(flow):
    edited = edit_fields.apply(picture(), fields(1, flow=flow))
    assert edited.shape == picture().shape
    corner = picture()[-1, -1] if flow[0] > 0 else None
    if corner is not None:
        assert (edited[24:28, 24:28] == corner).all()


@pytest.mark.parametrize(("pixels", "kept"), [(0.2, 0), (0.25, 0), (0.375, 0.5), (0.5, 1), (3, 1)])
def test_motions_of_a_fraction_of_a_pixel_are_none(pixels: float, kept: float):
    flow = np.array([0.6, -0.8]) * pixels / SIZE
    found = middle(fields(1, flow=tuple(flow)).settled().flow)
    np.testing.assert_allclose(found, np.broadcast_to(kept * flow, found.shape), rtol=1e-4, atol=1e-7)
