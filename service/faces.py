"""Which faces of a picture the model is shown, and where in the picture they lie."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service import alignment, images
from service.bundle import FaceFrame
from service.detector import Detector
from service.images import Box, FramingError
from service.runtime import RuntimeUnavailableError
from service.settings import Settings
from service.weights import WeightsError

log = logging.getLogger(__name__)


class NoFaceError(images.ImageError):
    """A sound picture in which nobody's face was found."""

    status = 422


@dataclass(frozen=True)
class Place:
    """Where in a picture the model's view of a face was taken from.

    `matrix` f64 [2, 3] takes the view's coordinates to the picture's (service.alignment). `box` and `landmarks`
    f64 [5, 2] are in the picture's pixels; of a picture that came framed the box is the
    view's, and there are no landmarks.
    """

    matrix: np.ndarray
    box: Box
    landmarks: np.ndarray | None


@dataclass(frozen=True)
class FramedFace:
    """One face as the model sees it, uint8 [S, S, 3], and where it is."""

    pixels: np.ndarray
    place: Place


class FaceFinder:
    """Frames faces for a model. Without a detector it takes pictures that are framed already, and no others."""

    def __init__(self, detector: Detector | None) -> None:
        self._detector = detector

    @classmethod
    def of(cls, settings: Settings) -> FaceFinder:
        """With the detector of the settings; without it, and a warning, where that cannot be had."""
        try:
            return cls(Detector(settings.weights))
        except (WeightsError, RuntimeUnavailableError) as exc:
            log.warning("faces cannot be found in photographs, only framed ones are accepted: %s", exc)
            return cls(None)

    def frame(
        self,
        image: Image.Image,
        frame: FaceFrame,
        framed: bool | None = None,
        size: tuple[int, int] | None = None,
        largest: bool = False,
    ) -> list[FramedFace]:
        """The faces of an upright RGB picture, largest first; at least one.

        With `largest`, that one alone will do, which is found sooner.
        `size` is the picture's width and height where `image` is a smaller version of it; places are in its pixels.

        With `framed` the picture is taken to be framed already, as images.framed_face describes. Left open, that holds
        for pictures of exactly the size of an aligned picture or of the model's own.
        Raises NoFaceError or FramingError.
        """
        if framed is None:
            sizes = (tuple(frame.aligned_size), (frame.image_size, frame.image_size))
            framed = self._detector is None or (size or image.size) in sizes
        factors = np.divide(size or image.size, image.size)
        if framed:
            return [_enlarged(_as_it_is(image, frame), factors)]
        if self._detector is None:
            raise FramingError("faces cannot be found: the face finder's weights are missing on this server")
        found = self._detector.detect(image, largest)
        if not found:
            raise NoFaceError("no face was found; a picture that is framed already may say so with framed=true")
        template = _template(frame)
        framings = [(face, alignment.similarity(template, face.landmarks)) for face in found]
        views = [
            FramedFace(alignment.sample(image, matrix, frame.image_size), Place(matrix, face.box, face.landmarks))
            for face, matrix in framings
        ]
        return [_enlarged(view, factors) for view in views]


def view(image: Image.Image, matrix: np.ndarray, side: int, size: tuple[int, int]) -> np.ndarray:
    """What a frame of `side` pixels shows, uint8 [side, side, 3], to which `matrix` f64 [2, 3] leads from a picture.

    The picture has the width and height `size`, of which `image`, RGB, may be a smaller version.
    """
    factors = np.divide(image.size, size)
    return alignment.sample(image, matrix * factors[:, None], side)


def _as_it_is(image: Image.Image, frame: FaceFrame) -> FramedFace:
    pixels, box = images.framed_face(image, frame)
    return FramedFace(pixels, Place(alignment.of_box(box, frame.image_size), box, None))


def _enlarged(face: FramedFace, factors: np.ndarray) -> FramedFace:
    """The same view of a picture that is larger by `factors` f64 [2], across and down."""
    if (factors == 1).all():
        return face
    place = face.place
    left, top, right, bottom = (np.array(place.box) * np.tile(factors, 2)).tolist()
    landmarks = None if place.landmarks is None else place.landmarks * factors
    return FramedFace(face.pixels, Place(place.matrix * factors[:, None], (left, top, right, bottom), landmarks))


def _template(frame: FaceFrame) -> np.ndarray:
    """Where the landmarks lie in the model's view, f64 [5, 2]."""
    left, top, right, _ = frame.crop_box
    return (np.array(frame.landmarks) - [left, top]) * (frame.image_size / (right - left))
