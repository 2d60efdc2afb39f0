"""An edit reaches the photograph, stays where it belongs, and leaves no seam."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.imaging import alignment
from service.imaging import paste as pasting

SIZE = 64


def transform(angle=0.0, factor=3.0, x=150.0, y=130.0):
    """A frame with its centre at (x, y), turned by `angle`, and `factor` pixels of the photograph to one of its own."""
    turned = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turned, [x, y] - turned @ [SIZE / 2, SIZE / 2]])


def picture(height=260, width=300, seed=0, detail=12):
    """Smooth colours with fine detail on top."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(70, 180, (6, 6, 3), dtype=np.uint8)).resize((width, height), 3)
    return (
        (np.asarray(coarse).astype(int) + rng.integers(-detail, detail + 1, (height, width, 3)))
        .clip(0, 255)
        .astype(np.uint8)
    )


def edit(level=60, x=32.0, y=40.0, radius=9.0):
    """Two draws of one face: a soft blob brighter in the second."""
    before = picture(SIZE, SIZE, seed=1, detail=3)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    blob = level * np.exp(-0.5 * ((columns - x) ** 2 + (rows - y) ** 2) / radius**2)
    return before, (before + blob[:, :, None]).clip(0, 255).round().astype(np.uint8)


def paste(taken, edits):
    return np.asarray(pasting.paste(Image.fromarray(taken), edits))


TRANSFORMS = [
    transform(),
    transform(angle=0.5),
    transform(angle=np.pi),
    transform(factor=0.6),
    transform(factor=1.0, angle=-0.2),
    transform(factor=3.7, x=20.0, y=250.0),  # half outside
]


@pytest.mark.parametrize("matrix", TRANSFORMS)
def test_an_edit_that_changes_nothing_changes_no_pixel(matrix):
    before, _ = edit()
    taken = picture()
    assert np.array_equal(paste(taken, [(matrix, before, before)]), taken)


@pytest.mark.parametrize("matrix", TRANSFORMS)
def test_nothing_changes_outside_the_frame_nor_far_from_the_edit(matrix):
    taken, (before, after) = picture(), edit(radius=4.0)
    result = paste(taken, [(matrix, before, after)])
    rows, columns = np.mgrid[: taken.shape[0], : taken.shape[1]] + 0.5
    places = alignment.apply(alignment.inverse(matrix), np.stack([columns.ravel(), rows.ravel()], 1))
    distance = np.linalg.norm(places - [32.5, 40.5], axis=1).reshape(rows.shape)
    assert (result != taken).any()
    assert np.array_equal(result[distance > 26], taken[distance > 26])


@pytest.mark.parametrize("matrix", TRANSFORMS[:3])
def test_the_edit_arrives_where_and_as_strong_as_it_was_drawn(matrix):
    taken, (before, after) = picture(detail=0), edit(level=50)
    result = paste(taken, [(matrix, before, after)]).astype(int)
    x, y = np.floor(alignment.apply(matrix, np.array([[32.5, 40.5]]))[0]).astype(int)
    change = (result - taken)[y - 2 : y + 3, x - 2 : x + 3].mean()
    assert change == pytest.approx(50, abs=4)


def test_the_photograph_keeps_its_fine_detail_under_a_faint_edit_and_loses_it_under_a_strong_one():
    taken = picture(detail=30)
    centre = np.s_[140:170, 140:160]

    def detail(image):
        return np.diff(image[centre].astype(float), axis=1).std()

    faint, strong = (detail(paste(taken, [(transform(), *edit(level=level))])) for level in (14, 110))
    assert faint == pytest.approx(detail(taken), rel=0.1)
    assert strong < 0.3 * detail(taken)


def test_noise_of_the_decoder_changes_no_colour():
    taken, (before, _) = picture(), edit()
    noisy = (before.astype(int) + np.random.default_rng(3).integers(-2, 3, before.shape)).clip(0, 255).astype(np.uint8)
    assert np.array_equal(paste(taken, [(transform(), before, noisy)]), taken)


@pytest.mark.parametrize("matrix", TRANSFORMS[:3])
@pytest.mark.parametrize("place", [(32.0, 40.0), (6.0, 6.0), (60.0, 30.0)])
def test_there_is_no_seam_where_an_edit_ends(matrix, place):
    """Gradient energy on the ring where the mask ends, after against before."""
    taken, (before, after) = picture(detail=4), edit(level=90, x=place[0], y=place[1], radius=14.0)
    result = paste(taken, [(matrix, before, after)])
    changed = (result != taken).any(axis=2)
    grown = sum(np.roll(changed, (dy, dx), (0, 1)) for dy in (-3, 0, 3) for dx in (-3, 0, 3))
    ring = (grown > 0) & (grown < 9)
    ring[:3] = ring[-3:] = ring[:, :3] = ring[:, -3:] = False

    def energy(image):
        down, across = np.gradient(image.astype(float), axis=(0, 1))
        return (down**2 + across**2).sum(2)[ring].mean()

    assert ring.any()
    assert energy(result) / energy(taken) < 1.1


def test_the_photograph_itself_is_left_as_it_is():
    taken = Image.fromarray(picture())
    result = pasting.paste(taken, [(transform(), *edit())])
    assert np.array_equal(np.asarray(taken), picture())
    assert not np.array_equal(np.asarray(result), picture())


@pytest.mark.parametrize("level", [14, 30, 110])
def test_colours_do_not_drift(level):
    """As much is added as the model's two faces differ where it counts; rounding favours neither side."""
    taken, (before, after) = picture(detail=0, seed=4), edit(level=level, y=32.0, radius=6.0)
    expected = pasting._change(before, after)[0].sum((0, 1))
    change = (paste(taken, [(transform(factor=4.0), before, after)]).astype(float) - taken).sum((0, 1)) / 16
    assert change == pytest.approx(expected, rel=0.03)


def test_a_frame_beside_the_photograph_changes_nothing():
    taken, (before, after) = picture(), edit()
    assert np.array_equal(paste(taken, [(transform(x=900.0), before, after)]), taken)


def test_several_faces_are_edited_each_in_its_place():
    taken, edited = picture(), edit(level=60)
    left, right = transform(factor=1.5, x=70.0), transform(factor=1.5, x=230.0)
    both = paste(taken, [(left, *edited), (right, *edited)])
    one_by_one = paste(paste(taken, [(left, *edited)]), [(right, *edited)])
    assert np.array_equal(both, one_by_one)
    assert (both != taken).any(axis=2)[:, :140].any()
    assert (both != taken).any(axis=2)[:, 160:].any()
