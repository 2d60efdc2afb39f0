"""The real networks on a photograph that scikit-image ships: an astronaut, looking at us."""

from __future__ import annotations

import itertools
from itertools import pairwise

import numpy as np
import pytest
import skimage.data
from PIL import Image

from service.faces import detector as detection
from service.faces.detector import Detector, _intervals, _tiled_factor
from service.faces.geometry import distinct
from service.faces.weights import WeightsError
from service.imaging import alignment
from service.settings import Settings

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


@pytest.mark.parametrize("size", [(1, 500_000), (500_000, 2)])
def test_a_strip_is_not_searched_in_thousands_of_tiles(detector, size, monkeypatch):
    searched, search = [], detector._at
    monkeypatch.setattr(detector, "_at", lambda *arguments: searched.append(arguments) or search(*arguments))
    assert detector.detect(Image.new("RGB", size)) == []
    assert 0 < len(searched) <= 12


def rotated(picture, degrees):
    """The picture turned counter-clockwise within its own size, and where its landmarks are then."""
    angle = np.radians(-degrees)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array(picture.size) / 2
    matrix = np.column_stack([turned, middle - turned @ middle])
    return picture.rotate(degrees, Image.Resampling.BICUBIC), alignment.apply(matrix, LANDMARKS)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [-135, -90, -45, -20, 20, 45, 90, 135, 180])
def test_a_turned_face_is_found_as_it_lies(detector, astronaut, degrees):
    """Beyond 45 degrees, RetinaFace alone takes it for an upright one."""
    picture, landmarks = rotated(astronaut, degrees)
    for largest in (False, True):
        (face,) = detector.detect(picture, largest)
        assert error(face, landmarks, 512) < 0.02
        left, top, right, bottom = face.box
        assert (face.landmarks > [left, top]).all()
        assert (face.landmarks < [right, bottom]).all()
        assert 0.7 < face.area / detector.detect(astronaut)[0].area < 1.6


def test_each_face_of_a_picture_may_be_turned_otherwise(detector, astronaut):
    sheet = Image.new("RGB", (1024, 1024), "grey")
    places = {0: (0, 0), 180: (512, 0), 90: (0, 512), 135: (512, 512)}
    for degrees, place in places.items():
        sheet.paste(rotated(astronaut, degrees)[0], place)
    found = detector.detect(sheet)
    assert len(found) == 4
    for degrees, place in places.items():
        landmarks = rotated(astronaut, degrees)[1] + place
        assert min(error(face, landmarks, 512) for face in found) < 0.02


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


def looks_of(detector, monkeypatch):
    """How large the pictures are that are searched, in times of what is given."""
    factors, look = [], detector._at
    monkeypatch.setattr(detector, "_at", lambda image, *how: factors.append(how[0]) or look(image, *how))
    return factors


def test_for_the_largest_face_a_glance_will_do(detector, astronaut, monkeypatch):
    factors = looks_of(detector, monkeypatch)
    sheet = Image.new("RGB", (2400, 1600), "grey")
    sheet.paste(astronaut.crop((130, 0, 330, 250)).resize((1280, 1600)), (20, 0))
    sheet.paste(astronaut.resize((400, 400), Image.Resampling.LANCZOS), (1900, 900))
    face = detector.detect(sheet, largest=True)[0]
    assert error(face, (LANDMARKS - [130, 0]) * 6.4 + [20, 0], 6.4 * 512) < 0.015
    assert [factor * 2400 for factor in factors] == pytest.approx([448])
    assert len(detector.detect(sheet)) == 2


def test_where_a_glance_leaves_doubt_which_is_the_largest_the_search_is_thorough(detector, astronaut, monkeypatch):
    factors = looks_of(detector, monkeypatch)
    sheet = Image.new("RGB", (2400, 1600), "grey")
    sheet.paste(astronaut.resize((400, 400), Image.Resampling.LANCZOS), (300, 900))
    sheet.paste(astronaut.resize((500, 500), Image.Resampling.LANCZOS), (1800, 700))
    assert error(detector.detect(sheet, largest=True)[0], LANDMARKS * 500 / 512 + [1800, 700], 500) < 0.02
    assert [factor * 2400 for factor in factors] == pytest.approx([448, 1024])


def test_an_upright_face_is_found_by_one_look(detector, astronaut, monkeypatch):
    factors = looks_of(detector, monkeypatch)
    detector.detect(astronaut)
    assert factors == [1]


@pytest.mark.slow
def test_where_nobody_is_found_no_search_is_done_twice(detector, monkeypatch):
    factors = looks_of(detector, monkeypatch)
    noise = Image.effect_noise((1700, 1200), 40).convert("RGB")
    assert detector.detect(noise) == []
    assert factors[:2] == pytest.approx([1024 / 1700, 320 / 1700])
    assert factors[2:5] == [1, 1, 1]  # of a smaller version, turned
    assert set(factors[5:]) == {0.77}
    del factors[:]
    assert detector.detect(noise.crop((0, 0, 1100, 900))) == []
    assert len(factors) == 5  # its own pixels are hardly more than were searched


def crowd(astronaut, size, width, columns, rows):
    """A grey picture with faces so many pixels wide, and their landmarks [F, 5, 2]."""
    head = astronaut.crop((130, 10, 320, 220))
    factor = width / 90  # of the box that is found
    head = head.resize((round(190 * factor), round(210 * factor)), Image.Resampling.LANCZOS)
    sheet, landmarks = Image.new("RGB", size, "grey"), []
    for row in range(rows):
        for column in range(columns):
            x, y = 20 + column * (size[0] - 150) // columns, 20 + row * (size[1] - 150) // rows
            sheet.paste(head, (x, y))
            landmarks.append((LANDMARKS - [130, 10]) * head.width / 190 + [x, y])
    return sheet, np.array(landmarks)


def match(found, landmarks, width):
    """Whether there is one face for each set of landmarks, and no other."""
    near = [[np.abs(face.landmarks - each).max() < 0.25 * width for face in found] for each in landmarks]
    return len(found) == len(landmarks) and np.sum(near, axis=0).tolist() == [1] * len(found)


@pytest.mark.slow
def test_faces_of_40_pixels_in_24_megapixels_are_found(detector, astronaut, monkeypatch):
    """In a JPEG's preview of half its size they have 20, of which a search at 1024 pixels leaves 7."""
    factors = looks_of(detector, monkeypatch)
    sheet, landmarks = crowd(astronaut, (3000, 2000), 20, 7, 5)
    assert match(detector.detect(sheet, reduction=2.0), landmarks, 20)
    assert max(factors) == pytest.approx(1.54)
    del factors[:]
    detector.detect(sheet)  # of a picture that is itself no larger, fewer pixels are searched
    assert max(factors) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("size", "enlarged"), [((6000, 4000), 1.54), ((9248, 7250), 1.6), ((3800, 2500), 0.77)])
def test_tiles_are_made_of_a_halved_picture_and_take_bounded_time(detector, size, enlarged, monkeypatch):
    """Of 64 megapixels they have no more pixels than of 24, and faces are where they are in the whole picture."""
    factors = looks_of(detector, monkeypatch)
    width = round(max(size) / 60)
    sheet, landmarks = crowd(Image.fromarray(skimage.data.astronaut()), size, width, 3, 2)
    assert match(detector._in_tiles(sheet, _tiled_factor(sheet, 1.0), detection._Turns()), landmarks, width)
    assert factors[0] == pytest.approx(enlarged)
    assert factors.count(factors[0]) <= 18


def test_a_crowd_with_larger_faces_is_searched_for_smaller_ones(detector, astronaut, monkeypatch):
    sheet, landmarks = crowd(astronaut, (3000, 2000), 34, 6, 4)
    sheet.paste(astronaut.resize((512, 512)), (2488, 1488))
    found = detector.detect(sheet)
    landmarks = [each for each in landmarks if not (each.max(axis=0) > [2488, 1488]).all()]
    assert error(found[0], LANDMARKS + np.array([2488, 1488]), 512) < 0.02
    assert match(found[1:], landmarks, 34)
    factors = looks_of(detector, monkeypatch)
    assert len(detector.detect(sheet, largest=True)) < len(found)
    assert 0.77 not in factors  # one is enough there


def test_where_somebody_is_near_nobody_looks_for_a_crowd(detector, astronaut, monkeypatch):
    factors = looks_of(detector, monkeypatch)
    assert len(detector.detect(astronaut.resize((4000, 4000)), reduction=1.5)) == 1
    assert factors == pytest.approx([1024 / 4000])


def test_a_crowd_on_its_head_is_found_too(detector, astronaut):
    sheet, landmarks = crowd(astronaut, (1400, 1000), 38, 5, 4)
    found = detector.detect(sheet.transpose(Image.Transpose.ROTATE_180))
    assert match(found, np.array(sheet.size) - landmarks, 38)


@pytest.mark.slow
@pytest.mark.parametrize("degrees", [0, 135])
def test_a_picture_full_of_faces_takes_bounded_time(detector, astronaut, degrees, monkeypatch):
    """However they lie: each that is turned would otherwise be looked at in eight directions."""
    looks, refined, refine = looks_of(detector, monkeypatch), [], detector._refined
    monkeypatch.setattr(detector, "_refined", lambda *face: refined.append(face) or refine(*face))
    head = astronaut.crop((130, 10, 340, 220)).resize((60, 60), Image.Resampling.LANCZOS).rotate(degrees)
    sheet = Image.new("RGB", (1020, 1020), "grey")
    for place in itertools.product(range(0, 1020, 68), repeat=2):
        sheet.paste(head, place)
    assert len(detector.detect(sheet)) >= 60
    assert len(looks) <= 100 + 4
    assert len(refined) <= 2 * 128 + 100


def test_of_many_places_that_look_like_a_face_the_best_are_considered(detector, monkeypatch):
    monkeypatch.setattr(detection, "_MOST_PLACES", 5)
    sheet, _ = crowd(Image.fromarray(skimage.data.astronaut()), (900, 700), 60, 5, 4)
    assert 1 <= len(detector.detect(sheet)) <= 5


def test_the_angle_that_fits_one_face_is_tried_first_for_the_next(detector, astronaut, monkeypatch):
    sheet, _ = crowd(astronaut, (1000, 800), 60, 6, 5)
    looks = looks_of(detector, monkeypatch)
    found = detector.detect(rotated(sheet, 135)[0])
    assert len(found) >= 15
    assert len(looks) <= 2 * len(found) + 10


@pytest.mark.parametrize(("length", "factor"), [(3000, 1.6), (6000, 0.8), (500, 0.8), (2, 0.8), (1441, 0.8)])
def test_tiles_overlap_by_a_face_and_leave_nothing_out(length, factor):
    tiles = _intervals(length, factor)
    assert tiles[0][0] == 0
    assert tiles[-1][1] == length
    assert all((end - start) * factor <= 1217 for start, end in tiles)
    assert all((end - start) * factor >= 78 for (_, end), (start, _) in pairwise(tiles))


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
    assert distinct(boxes, np.array([0.9, 0.95, 0.8, 0.85])) == [1, 3, 2]
    assert distinct(np.empty((0, 4)), np.empty(0)) == []
