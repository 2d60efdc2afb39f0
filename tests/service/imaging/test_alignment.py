import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service.imaging import alignment


def transform(angle: float, factor: float, x: float, y: float) -> np.ndarray:
    turned = factor * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([turned, [x, y]])


POINTS = np.array([[69.4, 111.2], [107.7, 111.1], [88.0, 135.0], [71.5, 152.4], [104.8, 152.4]])
transforms = st.builds(transform, st.floats(-3.1, 3.1), st.floats(0.05, 20), st.floats(-500, 500), st.floats(-500, 500))


@given(transforms)
def test_a_similarity_is_found_again(matrix):
    moved = alignment.apply(matrix, POINTS)
    assert alignment.similarity(POINTS, moved) == pytest.approx(matrix, abs=1e-6 * (1 + abs(matrix).max()))


@given(transforms)
def test_there_and_back_again(matrix):
    back = alignment.apply(alignment.inverse(matrix), alignment.apply(matrix, POINTS))
    assert back == pytest.approx(POINTS, abs=1e-6)


def test_noise_is_averaged_and_faces_are_never_mirrored():
    matrix = transform(0.4, 2.5, 30, -20)
    noisy = alignment.apply(matrix, POINTS) + np.random.default_rng(0).normal(0, 0.5, POINTS.shape)
    assert alignment.apply(alignment.similarity(POINTS, noisy), POINTS) == pytest.approx(noisy, abs=1.5)
    found = alignment.similarity(POINTS, POINTS * [-1, 1])
    assert np.linalg.det(found[:, :2]) > 0


def test_points_in_one_place_have_no_similarity():
    with pytest.raises(ValueError, match="coincide"):
        alignment.similarity(np.ones((5, 2)), POINTS)


def gradient(width: int, height: int) -> Image.Image:
    """Red is the column, green the row, both in steps of one."""
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x, y, np.full_like(x, 99)], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, np.pi / 2, 3.0])
@pytest.mark.parametrize("factor", [0.3, 1.0, 2.6])
def test_a_sample_shows_what_lies_there(angle, factor):
    size, centre = 24, np.array([100.0, 90.0])
    matrix = transform(angle, factor, 0, 0)
    matrix[:, 2] = centre - matrix[:, :2] @ [size / 2, size / 2]
    seen = alignment.sample(gradient(200, 180), matrix, size)
    assert seen.shape == (size, size, 3)
    y, x = np.mgrid[:size, :size] + 0.5
    expected = alignment.apply(matrix, np.stack([x.ravel(), y.ravel()], 1)).reshape(size, size, 2) - 0.5
    assert np.abs(seen[:, :, :2] - expected).max() < 1.5
    assert np.abs(seen[:, :, 2].astype(int) - 99).max() <= 1


def test_small_pictures_of_fine_patterns_are_grey_and_not_moire():
    checks = np.indices((400, 400)).sum(0) % 2 * 255
    picture = Image.fromarray(np.repeat(checks[:, :, None], 3, axis=2).astype(np.uint8))
    seen = alignment.sample(picture, transform(0.2, 8.0, 60, 60), 24).astype(int)
    assert np.abs(seen - 127).max() < 12


def test_beyond_the_picture_its_border_goes_on():
    picture = Image.new("RGB", (40, 40), (10, 200, 30))
    seen = alignment.sample(picture, transform(0.5, 2.0, -60, 25), 32)
    assert (seen == [10, 200, 30]).all()


def test_corners_and_scale():
    matrix = transform(np.pi / 2, 3.0, 10, 20)
    assert alignment.scale(matrix) == pytest.approx(3)
    assert alignment.corners(matrix, 2) == pytest.approx(np.array([[10, 20], [10, 26], [4, 26], [4, 20]]))
