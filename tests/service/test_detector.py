"""The real networks on a photograph that scikit-image ships: an astronaut, looking at us."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from PIL import Image

from service import alignment
from service.detector import Detector, _distinct
from service.settings import Settings
from service.weights import WeightsError

# By eye, in the photograph's 512 x 512 pixels: eyes, nose, corners of the mouth.
LANDMARKS = np.array([[205, 101], [246, 103], [225, 129], [203, 139], [245, 141]])


@pytest.fixture(scope="module")
def detector():
    try:
        return Detector(Settings().weights)
    except WeightsError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def astronaut():
    return Image.fromarray(skimage.data.astronaut())


def error(face, expected, size):
    return np.abs(face.landmarks - expected).max() / size


def test_a_face_is_found_with_its_landmarks(detector, astronaut):
    (face,) = detector.detect(astronaut)
    assert face.score > 0.95
    assert error(face, LANDMARKS, 512) < 0.01
    left, top, right, bottom = face.box
    assert (face.landmarks > [left, top]).all()
    assert (face.landmarks < [right, bottom]).all()
    assert face.area == pytest.approx((right - left) * (bottom - top))


@pytest.mark.parametrize("degrees", [-45, -20, 20, 45])
def test_a_tilted_face_is_found(detector, astronaut, degrees):
    angle = np.radians(-degrees)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([turned, [256, 256] - turned @ [256, 256]])
    (face,) = detector.detect(astronaut.rotate(degrees, Image.Resampling.BICUBIC))
    assert error(face, alignment.apply(matrix, LANDMARKS), 512) < 0.02


@pytest.mark.parametrize("side", [160, 300, 1500, 3000])
def test_a_face_is_found_at_any_resolution(detector, astronaut, side):
    (face,) = detector.detect(astronaut.resize((side, side)))
    assert error(face, LANDMARKS * side / 512, side) < 0.015


def test_a_face_that_fills_the_picture_is_found(detector, astronaut):
    crop = astronaut.crop((165, 40, 285, 185)).resize((1200, 1450), Image.Resampling.BICUBIC)
    assert len(detector.detect(crop)) == 1


def test_several_faces_come_largest_first(detector, astronaut):
    sheet = Image.new("RGB", (900, 520), "grey")
    sheet.paste(astronaut.resize((300, 300)), (20, 100))
    sheet.paste(astronaut, (380, 4))
    large, small = detector.detect(sheet)
    assert large.area > 2 * small.area
    assert error(large, LANDMARKS + np.array([380, 4]), 512) < 0.015
    assert error(small, LANDMARKS * 300 / 512 + [20, 100], 300) < 0.015


def looks(detector, monkeypatch):
    """How large the pictures are that are searched, in times of what is given."""
    factors, look = [], detector._at
    monkeypatch.setattr(detector, "_at", lambda image, *how: factors.append(how[0]) or look(image, *how))
    return factors


def test_for_the_largest_face_a_glance_will_do(detector, astronaut, monkeypatch):
    factors = looks(detector, monkeypatch)
    sheet = Image.new("RGB", (2400, 1600), "grey")
    sheet.paste(astronaut.crop((130, 0, 330, 250)).resize((1280, 1600)), (20, 0))
    sheet.paste(astronaut.resize((400, 400), Image.Resampling.LANCZOS), (1900, 900))
    face = detector.detect(sheet, largest=True)[0]
    assert error(face, (LANDMARKS - [130, 0]) * 6.4 + [20, 0], 6.4 * 512) < 0.015
    assert [factor * 2400 for factor in factors] == pytest.approx([448])
    assert len(detector.detect(sheet)) == 2


def test_where_a_glance_leaves_doubt_which_is_the_largest_the_search_is_thorough(detector, astronaut, monkeypatch):
    factors = looks(detector, monkeypatch)
    sheet = Image.new("RGB", (2400, 1600), "grey")
    sheet.paste(astronaut.resize((400, 400), Image.Resampling.LANCZOS), (300, 900))
    sheet.paste(astronaut.resize((500, 500), Image.Resampling.LANCZOS), (1800, 700))
    assert error(detector.detect(sheet, largest=True)[0], LANDMARKS * 500 / 512 + [1800, 700], 500) < 0.02
    assert [factor * 2400 for factor in factors] == pytest.approx([448, 1024])


def test_a_small_face_is_found(detector, astronaut):
    """18 pixels wide."""
    sheet = Image.new("RGB", (500, 400), "grey")
    sheet.paste(astronaut.resize((80, 80), Image.Resampling.LANCZOS), (300, 200))
    (face,) = detector.detect(sheet)
    assert error(face, LANDMARKS * 80 / 512 + [300, 200], 80) < 0.02


def test_a_blur_of_a_face_beside_one_is_none(detector, astronaut):
    few = astronaut.crop((130, 0, 330, 260)).resize((8, 10), Image.Resampling.BOX)
    blur = few.resize((640, 480), Image.Resampling.BICUBIC)
    blur.paste(astronaut.resize((150, 150)), (470, 20))
    (face,) = detector.detect(blur)
    assert error(face, LANDMARKS * 150 / 512 + [470, 20], 150) < 0.02


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket", "page"])
def test_where_there_is_no_face_none_is_found(detector, name):
    assert detector.detect(Image.fromarray(getattr(skimage.data, name)()).convert("RGB")) == []


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (5000, 2)])
def test_odd_pictures_have_no_face(detector, size):
    assert detector.detect(Image.new("RGB", size, "white")) == []


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"retinaface.onnx"):
        Detector(tmp_path)


def test_of_boxes_that_overlap_the_best_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 0, 30, 10], [5, 0, 15, 10]], dtype=float)
    assert _distinct(boxes, np.array([0.9, 0.95, 0.8, 0.85])) == [1, 3, 2]
    assert _distinct(np.empty((0, 4)), np.empty(0)) == []
