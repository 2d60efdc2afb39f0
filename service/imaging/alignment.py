"""Similarity transforms between a picture and the model's upright frame, and resampling by them.

A transform is f64 [2, 3] and maps frame coordinates to picture coordinates, both in pixels with the origin at the
top-left corner of the top-left pixel, whose centre is (0.5, 0.5).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL import Image

from service.imaging import codecs

_MARGIN = 3  # pixels around, which bicubic interpolation reads


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The least-squares similarity f64 [2, 3] from points f [N, 2] to others (Umeyama 1991), without reflection.

    Raises ValueError if all source points coincide.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    origin, aim = source.mean(0), target.mean(0)
    a, b = source - origin, target - aim
    spread = np.square(a).sum()
    if not spread > 0:
        raise ValueError("the points of a similarity must not all coincide")
    # In the plane, rotation and scale are one complex factor, whose least-squares solution has this closed form.
    cosine = (a * b).sum() / spread
    sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / spread
    turned = np.array([[cosine, -sine], [sine, cosine]])
    return np.column_stack([turned, aim - turned @ origin])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Transformed points, f64 [N, 2]."""
    return np.asarray(points, dtype=np.float64) @ matrix[:, :2].T + matrix[:, 2]


def inverse(matrix: np.ndarray) -> np.ndarray:
    """The inverse transform, f64 [2, 3]."""
    turned = np.linalg.inv(matrix[:, :2])
    return np.column_stack([turned, -turned @ matrix[:, 2]])


def after(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The composition of `first` and then `second`, f64 [2, 3]."""
    return np.column_stack([second[:, :2] @ first[:, :2], second[:, :2] @ first[:, 2] + second[:, 2]])


def seen(matrix: np.ndarray, factors: np.ndarray, origin: np.ndarray | None = None) -> np.ndarray:
    """The transform to the part of a picture from `origin` f64 [2] on, which is larger by `factors` f64 [2, 1]."""
    moved = matrix if origin is None else np.column_stack([matrix[:, :2], matrix[:, 2] - origin])
    return moved * factors


def of_box(box: codecs.Box, size: int) -> np.ndarray:
    """The transform f64 [2, 3] of a frame of `size` x `size` that is a box of the picture, without rotation."""
    left, top, right, bottom = box
    return np.array([[(right - left) / size, 0.0, left], [0.0, (bottom - top) / size, top]])


class Crop(Protocol):
    """A square crop of an aligned picture, such as service.bundle.manifest.FaceFrame."""

    image_size: int
    crop_box: codecs.Box


def between(frame: Crop, other: Crop) -> np.ndarray:
    """The transform f64 [2, 3] from one frame's coordinates to another's, of the same aligned pictures."""
    first, second = (of_box(each.crop_box, each.image_size) for each in (frame, other))
    return after(inverse(second), first)


def scale(matrix: np.ndarray) -> float:
    """Picture pixels per frame pixel."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def corners(matrix: np.ndarray, size: float) -> np.ndarray:
    """The corners of a frame of `size` x `size`, in the picture's coordinates, f64 [4, 2]."""
    return apply(matrix, np.array([[0, 0], [size, 0], [size, size], [0, size]]))


def sample(image: Image.Image, matrix: np.ndarray, size: int) -> np.ndarray:
    """The frame uint8 [size, size, 3], resampled from an RGB picture.

    Bicubic with antialiasing. Border pixels are repeated outside the picture.
    """
    if not (matrix[0, 1] or matrix[1, 0]) and matrix[0, 0] > 0 and matrix[1, 1] > 0:  # no rotation
        (left, top), _, (right, bottom), _ = corners(matrix, size)
        return codecs.crop_resize(image, (left, top, right, bottom), size)
    # First reduce to about the frame's resolution, with antialiasing, then rotate.
    reduction = max(1.0, scale(matrix))
    found = corners(matrix, size)
    left, top = np.floor(found.min(0) - _MARGIN * reduction)
    right, bottom = np.ceil(found.max(0) + _MARGIN * reduction)
    columns, rows = (max(1, round((end - start) / reduction)) for start, end in ((left, right), (top, bottom)))
    part = codecs.resample(image, (left, top, right, bottom), (columns, rows))
    across, down = columns / (right - left), rows / (bottom - top)
    to_part = np.array([[across, 0, -left * across], [0, down, -top * down]])
    picture = Image.fromarray(part).transform(
        (size, size), Image.Transform.AFFINE, tuple(after(to_part, matrix).ravel()), Image.Resampling.BICUBIC
    )
    return np.asarray(picture)
