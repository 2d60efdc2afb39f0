"""Framing: the faces of a picture, cropped and aligned as the model sees them, and their locations."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.bundle.manifest import FaceFrame
from service.errors import FramingError, ImageError, RuntimeUnavailableError
from service.faces.detector import Detector
from service.faces.weights import WeightsError
from service.imaging import alignment, codecs
from service.imaging.codecs import Box
from service.settings import Settings

log = logging.getLogger(__name__)


class NoFaceError(ImageError):
    """A valid picture in which no face was found."""

    status = 422


@dataclass(frozen=True)
class FaceLocation:
    """The location of a framed face in its picture.

    `matrix` f64 [2, 3] maps coordinates of the frame to those of the picture (service.imaging.alignment). `box` and
    `landmarks` f64 [5, 2] are in the picture's pixels; `score`, 0 to 1, is the detector's. For a picture that was
    framed before, the box is that of the frame, and there are neither landmarks nor a score.
    """

    matrix: np.ndarray
    box: Box
    landmarks: np.ndarray | None
    score: float | None = None


@dataclass(frozen=True)
class FramedFace:
    """A face in the model's frame, `pixels` uint8 [S, S, 3], and its location."""

    pixels: np.ndarray
    location: FaceLocation


class FaceFinder:
    """Frames faces for a model. Without a detector it accepts only pictures that are framed already."""

    def __init__(self, detector: Detector | None) -> None:
        self._detector = detector

    @classmethod
    def of(cls, settings: Settings) -> FaceFinder:
        """With the detector of the settings; without a detector, and with a warning, if it cannot be loaded."""
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

        With `largest`, the others may be missing, which is faster. If `image` is a smaller version of the picture,
        `size` is the picture's width and height, and locations are in its pixels.

        With `framed`, the picture is framed already, as service.imaging.codecs.framed_face describes. With None, this
        applies to pictures of exactly the aligned size or the model's size. Raises NoFaceError or FramingError.
        """
        if framed is None:
            sizes = (tuple(frame.aligned_size), (frame.image_size, frame.image_size))
            framed = self._detector is None or (size or image.size) in sizes
        factors = np.divide(size or image.size, image.size)
        if framed:
            return [_scaled(_framed(image, frame), factors)]
        if self._detector is None:
            raise FramingError("faces cannot be found: the face finder's weights are missing on this server")
        found = self._detector.detect(image, largest, float(factors[0]))
        if not found:
            raise NoFaceError("no face was found; a picture that is framed already may say so with framed=true")
        template = _template(frame)
        framings = [(face, alignment.similarity(template, face.landmarks)) for face in found]
        views = [
            FramedFace(
                alignment.sample(image, matrix, frame.image_size),
                FaceLocation(matrix, face.box, face.landmarks, face.score),
            )
            for face, matrix in framings
        ]
        return [_scaled(view, factors) for view in views]


def view(image: Image.Image, matrix: np.ndarray, side: int, size: tuple[int, int]) -> np.ndarray:
    """The frame of `side` pixels, uint8 [side, side, 3], whose coordinates `matrix` f64 [2, 3] maps to the picture's.

    The picture has the width and height `size`; `image`, RGB, may be a smaller version of it.
    """
    factors = np.divide(image.size, size)
    return alignment.sample(image, matrix * factors[:, None], side)


def _framed(image: Image.Image, frame: FaceFrame) -> FramedFace:
    pixels, box = codecs.framed_face(image, frame)
    return FramedFace(pixels, FaceLocation(alignment.of_box(box, frame.image_size), box, None))


def _scaled(face: FramedFace, factors: np.ndarray) -> FramedFace:
    """The same face, located in a picture that is larger by `factors` f64 [2], horizontally and vertically."""
    if (factors == 1).all():
        return face
    location = face.location
    left, top, right, bottom = (np.array(location.box) * np.tile(factors, 2)).tolist()
    landmarks = None if location.landmarks is None else location.landmarks * factors
    box, matrix = (left, top, right, bottom), location.matrix * factors[:, None]
    return FramedFace(face.pixels, FaceLocation(matrix, box, landmarks, location.score))


def _template(frame: FaceFrame) -> np.ndarray:
    """The landmarks of an aligned face in the model's frame, f64 [5, 2]."""
    left, top, right, _ = frame.crop_box
    return (np.array(frame.landmarks) - [left, top]) * (frame.image_size / (right - left))
