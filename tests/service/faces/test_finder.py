"""Which view of a picture the model gets, with a detector that says what it is told."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.bundle.manifest import FaceFrame
from service.errors import FramingError
from service.faces.detector import FoundFace
from service.faces.finder import FaceFinder, NoFaceError
from service.imaging import alignment, codecs

FRAME = FaceFrame(
    image_size=16,
    aligned_size=(178, 218),
    crop_box=(15, 40, 163, 188),
    landmarks=[(69, 111), (108, 111), (89, 130), (73, 152), (105, 152)],
)


class Told:
    """A detector that finds faces at the given places."""

    def __init__(self, *matrices: np.ndarray) -> None:
        self.matrices, self.requested = matrices, 0

    def detect(self, image: Image.Image, largest: bool = False, reduction: float = 1.0) -> list[FoundFace]:
        self.requested += 1
        self.reduction = reduction
        return [FoundFace(0.9, (1, 2, 30, 40), alignment.apply(m, np.array(FRAME.landmarks))) for m in self.matrices]


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])
ELSEWHERE = np.array([[0.0, -2.0, 700], [2.0, 0.0, 90]])  # lying on its side, twice as large


def test_a_found_face_is_seen_as_the_aligned_picture_would_be():
    picture = noise(178, 218)
    (face,) = FaceFinder(Told(IDENTITY)).frame(picture, FRAME, framed=False)
    expected, _ = codecs.framed_face(picture, FRAME)
    assert np.abs(face.pixels.astype(int) - expected).mean() < 2
    assert face.location.box == (1, 2, 30, 40)
    assert face.location.score == 0.9
    assert face.location.landmarks == pytest.approx(np.array(FRAME.landmarks))
    assert alignment.apply(face.location.matrix, [[0, 0], [16, 16]]) == pytest.approx(np.array([[15, 40], [163, 188]]))


def test_a_face_elsewhere_and_turned_is_seen_upright():
    picture = noise(178, 218)
    large = picture.resize((356, 436), Image.Resampling.BICUBIC).transpose(Image.Transpose.ROTATE_270)
    canvas = Image.new("RGB", (800, 600), "grey")
    canvas.paste(large, (700 - 436, 90))
    (face,) = FaceFinder(Told(ELSEWHERE)).frame(canvas, FRAME)
    expected, _ = codecs.framed_face(picture, FRAME)
    assert np.abs(face.pixels.astype(int) - expected).mean() < 3


def test_every_face_comes_in_the_detectors_order():
    found = FaceFinder(Told(ELSEWHERE, IDENTITY)).frame(noise(800, 600), FRAME)
    assert [round(alignment.scale(face.location.matrix), 2) for face in found] == [18.5, 9.25]


@pytest.mark.parametrize("size", [(178, 218), (16, 16)])
def test_a_picture_of_the_models_own_size_is_not_searched(size):
    detector = Told(ELSEWHERE)
    (face,) = FaceFinder(detector).frame(noise(*size), FRAME)
    assert detector.requested == 0
    assert face.location.landmarks is None
    assert face.location.score is None
    assert np.array_equal(face.pixels, codecs.framed_face(noise(*size), FRAME)[0])


def test_a_framed_picture_is_taken_at_its_word():
    detector = Told(ELSEWHERE)
    (face,) = FaceFinder(detector).frame(noise(356, 436), FRAME, framed=True)
    assert detector.requested == 0
    assert face.location.box == (30, 80, 326, 376)
    assert alignment.apply(face.location.matrix, [[0, 0], [16, 16]]) == pytest.approx(np.array([[30, 80], [326, 376]]))


def test_where_nobody_is_there_is_an_error_that_says_what_else_to_do():
    with pytest.raises(NoFaceError, match="framed=true") as caught:
        FaceFinder(Told()).frame(noise(300, 300), FRAME)
    assert caught.value.status == 422


def test_without_a_detector_framed_pictures_are_taken_and_others_refused():
    finder = FaceFinder(None)
    assert len(finder.frame(noise(356, 436), FRAME)) == 1
    assert len(finder.frame(noise(64, 64), FRAME)) == 1
    with pytest.raises(FramingError, match="600 x 200"):
        finder.frame(noise(600, 200), FRAME)
    with pytest.raises(FramingError, match="weights are missing"):
        finder.frame(noise(356, 436), FRAME, framed=False)


@pytest.mark.parametrize("framed", [True, False])
def test_places_are_told_in_the_pixels_of_the_whole_picture(framed):
    preview, detector = noise(178, 218), Told(IDENTITY)
    (face,) = FaceFinder(detector).frame(preview, FRAME, framed, size=(712, 872))
    (plain,) = FaceFinder(Told(IDENTITY)).frame(preview, FRAME, framed)
    assert np.array_equal(face.pixels, plain.pixels)
    assert face.location.matrix == pytest.approx(4 * plain.location.matrix)
    assert face.location.box == pytest.approx(tuple(4 * side for side in plain.location.box))
    if not framed:
        assert face.location.landmarks == pytest.approx(4 * plain.location.landmarks)
        assert face.location.score == 0.9
        assert detector.reduction == 4  # how small a face in the preview may be, the detector knows by that
