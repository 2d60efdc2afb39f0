"""A part of a photograph at another size, and edits of it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.imaging import alignment
from service.imaging.codecs import Photo
from service.imaging.tone import Tone
from service.pipeline.views import View


def gradient() -> Photo:
    """300 x 200 pixels: x in the red channel, y in the green one."""
    rows, columns = np.mgrid[:200, :300]
    return Photo(Image.fromarray(np.dstack([columns // 2, rows, 0 * rows]).astype(np.uint8)), None, None)


@pytest.mark.parametrize(
    ("region", "size", "expected"),
    [
        (None, None, (300, 200)),
        (None, 150, (150, 100)),
        (None, 4000, (300, 200)),
        ((0.5, 0.5, 1, 1), None, (150, 100)),
        ((0.5, 0, 1, 1), 100, (75, 100)),
        ((0.999, 0.999, 1, 1), 100, (1, 1)),
    ],
)
def test_a_view_is_the_region_at_most_as_long_as_requested(region, size, expected):
    assert View.of(gradient(), region, size).photo.image.size == expected


def test_a_view_shows_the_pixels_of_its_region():
    view = View.of(gradient(), (0.5, 0.25, 1, 0.75), 50)
    red, green, _ = np.asarray(view.photo.image)[:, :, :].astype(float).transpose(2, 0, 1)
    assert abs(red[20, 25] - (150 + 25.5 * 3) / 2) < 1.5
    assert abs(green[16, 25] - (50 + 16.5 * 3)) < 1.5


class Spot:
    """An edit that whitens the pixel at the origin of its frame."""

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = matrix

    def resized(self, factors: np.ndarray, origin: np.ndarray | None = None):
        return Spot(alignment.seen(self.matrix, factors, origin))

    def onto(self, photo: Image.Image, tone: Tone | None = None) -> None:
        photo.putpixel(tuple(int(each) for each in self.matrix[:, 2]), (255, 255, 255))


def test_edits_of_the_whole_land_where_they_belong_in_the_view():
    at = [Spot(np.array([[1.0, 0, x], [0, 1.0, y]])) for x, y in ((200.5, 100.5), (290.5, 60.5))]
    view = View.of(gradient(), (0.5, 0.25, 1, 0.75), 50)
    both = np.asarray(view.edited([*at, None], False).image)
    assert [both[16, 16].min(), both[3, 46].min()] == [255, 255]
    separate = view.variants(at, False)
    assert [separate[0][16, 16].min(), separate[0][3, 46].min()] == [255, 0]
    assert np.asarray(view.photo.image).min(axis=2).max() == 0  # the view itself stays
