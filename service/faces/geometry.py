"""Faces as they were found: their boxes and landmarks, moved between turned frames, each kept once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from service.imaging import alignment
from service.imaging.codecs import Box

_OVERLAP = 0.4  # of two boxes' shared area in their union, from which on they are of one face


@dataclass(frozen=True)
class FoundFace:
    """`score` 0 to 1; `box` and `landmarks` f64 [5, 2] in the picture's pixels.

    The landmarks are the eyes, the nose and the corners of the mouth, of each pair the one further left in the picture
    of an upright face first.
    """

    score: float
    box: Box
    landmarks: np.ndarray

    @property
    def area(self) -> float:
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)

    @property
    def centre(self) -> np.ndarray:
        """f64 [2]."""
        return np.reshape(self.box, (2, 2)).mean(axis=0)

    @property
    def side(self) -> float:
        """The longer side of the box."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)

    @property
    def roll(self) -> float:
        """The angle of the line through the eyes, in -pi to pi."""
        x, y = self.landmarks[1] - self.landmarks[0]
        return math.atan2(y, x)

    def moved(self, matrix: np.ndarray) -> FoundFace:
        """The face of a frame where it is in the picture, by the transform f64 [2, 3] between their coordinates.

        Its box is the one around the ellipse that fills its box in the frame.
        """
        left, top, right, bottom = self.box
        centre = alignment.apply(matrix, [self.centre])[0]
        half = np.sqrt(matrix[:, :2] ** 2 @ np.square([(right - left) / 2, (bottom - top) / 2]))
        box = (*(centre - half).tolist(), *(centre + half).tolist())
        return FoundFace(self.score, box, alignment.apply(matrix, self.landmarks))


def around(centre: np.ndarray, size: tuple[int, int], angle: float, scale: float) -> np.ndarray:
    """The transform f64 [2, 3] from a frame of that width and height, turned around a centre of the picture's."""
    turned = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.column_stack([turned, centre - turned @ (np.array(size) / 2)])


def square(face: FoundFace, angle: float, sides: float, size: int) -> np.ndarray:
    """The transform f64 [2, 3] from a turned frame of `size` x `size`, `sides` times as long as the face."""
    return around(face.centre, (size, size), angle, sides * face.side / size)


def each_once(faces: list[FoundFace]) -> list[FoundFace]:
    """Those that are left where several boxes mostly cover each other: the one with the best score."""
    boxes, scores = np.reshape([face.box for face in faces], (-1, 4)), np.array([face.score for face in faces])
    return [faces[i] for i in distinct(boxes, scores)]


def distinct(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Rows of boxes f [M, 4], best score first, without those that mostly cover a better one."""
    order, kept = np.argsort(-scores), []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (high - low).clip(min=0).prod(axis=1)
        order = rest[shared / (areas[best] + areas[rest] - shared) <= _OVERLAP]
    return kept
