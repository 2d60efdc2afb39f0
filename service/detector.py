"""Finds faces: RetinaFace says where they are, MTCNN's O-Net places their landmarks more exactly.

Both run on ONNX Runtime, on the CPU and in the thread that asks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from service import alignment, memory, weights
from service.images import Box
from service.runtime import require_onnxruntime

# RetinaFace (Deng et al. 2020), as its weights were trained.
_STRIDES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}  # and the sides of the two anchors at each place, in pixels
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_MEAN = np.array([104, 117, 123], dtype=np.float32)  # of blue, green, red
_OVERLAP = 0.4
# Longest sides of the picture that is searched, and how much it may be enlarged for that. Small faces need many pixels.
# Where nobody was found, fewer are tried, which very large faces need, and then an enlarged picture.
_FINE, _LAST_RESORTS = (1024, 1.0), ((320, 1.0), (1024, 2.0))
# For the largest face alone, of a picture that would be shrunk anyway, a glance may do: if the largest that it suspects
# has at least so many of its pixels, and it is sure of that one, then whatever it overlooks is smaller.
_GLANCE, _LARGE, _SUSPECTED = (448, 1.0), 64, 0.05
_ONET_SIZE = 48
_ONET_SCORE = 0.5  # below, its landmarks are no better than RetinaFace's
# How sure RetinaFace and O-Net must be of a face. Either makes up for what the other misses: O-Net does not know
# profiles; RetinaFace sees faces in blurred backgrounds and overlooks small ones.
_SURE = 0.95
_BELIEVED = ((_SURE, 0.0), (0.8, 0.3), (0.5, 0.9))
_SCORE = min(score for score, _ in _BELIEVED)


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


class Detector:
    """Loads both networks from `directory`. Raises weights.WeightsError. Safe to call from many threads."""

    def __init__(self, directory: Path) -> None:
        runtime = require_onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._retinaface, self._onet = (
            runtime.InferenceSession(network.load(directory), options, providers=["CPUExecutionProvider"])
            for network in (weights.RETINAFACE, weights.ONET)
        )

    def detect(self, image: Image.Image, largest: bool = False) -> list[FoundFace]:
        """The faces of an upright RGB picture, largest first; with `largest` that one alone will do."""
        faces = self._glance(image) if largest and _factor(image, *_FINE) < 1 else []
        for limits in (_FINE, *_LAST_RESORTS):
            faces = faces or self._believed(image, self._at(image, _factor(image, *limits), _SCORE))
        return sorted(faces, key=lambda face: -face.area)

    def _glance(self, image: Image.Image) -> list[FoundFace]:
        """The largest face, if there can be no doubt which it is; a fraction of the time of a thorough search."""
        factor = _factor(image, *_GLANCE)
        seen = max(self._at(image, factor, _SUSPECTED), key=lambda face: face.area, default=None)
        if seen is None or seen.score < _SURE or math.sqrt(seen.area) * factor < _LARGE:
            return []
        return self._believed(image, [seen])

    def _at(self, image: Image.Image, factor: float, score: float) -> list[FoundFace]:
        """What RetinaFace takes for a face, at least so sure, in the picture at `factor` times its size."""
        width, height = (max(1, round(side * factor)) for side in image.size)
        pixels = np.asarray(_resized(image, width, height, thoroughly=score >= _SCORE))
        # Whole strides; the mean colour, which is zero to the network, fills what is missing.
        batch = np.zeros((1, 3, *(32 * math.ceil(side / 32) for side in (height, width))), dtype=np.float32)
        for channel, mean in enumerate(_MEAN):
            np.subtract(pixels[:, :, 2 - channel], mean, out=batch[0, channel, :height, :width])
        with memory.translated():
            offsets, confidences, points = (part[0] for part in self._retinaface.run(None, {"input": batch}))
        rows = np.flatnonzero(confidences[:, 1] > score)
        anchors = _anchors(batch.shape[2], batch.shape[3])[rows]  # [M, 3]: centre and side
        centre, side = anchors[:, :2], anchors[:, 2:]
        middle = centre + _CENTRE_VARIANCE * side * offsets[rows, :2]
        half = 0.5 * side * np.exp(_SIZE_VARIANCE * offsets[rows, 2:])
        boxes, scores = np.concatenate([middle - half, middle + half], axis=1), confidences[rows, 1]
        marks = centre[:, None] + _CENTRE_VARIANCE * side[:, None] * points[rows].reshape(-1, 5, 2)
        back = np.array([image.width / width, image.height / height])
        return [
            FoundFace(float(scores[i]), tuple((boxes[i].reshape(2, 2) * back).ravel().tolist()), marks[i] * back)
            for i in _distinct(boxes, scores)
        ]

    def _believed(self, image: Image.Image, seen: list[FoundFace]) -> list[FoundFace]:
        refined = (self._refined(image, face) for face in seen if face.score > _SCORE)
        return [face for face in refined if face is not None]

    def _refined(self, image: Image.Image, face: FoundFace) -> FoundFace | None:
        """The face with O-Net's landmarks, where it sees a face too; None for what is not believed to be one."""
        left, top, right, bottom = face.box
        eyes = face.landmarks[1] - face.landmarks[0]
        angle, side = math.atan2(eyes[1], eyes[0]), max(right - left, bottom - top)
        turned = side / _ONET_SIZE * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        centre = np.array([left + right, top + bottom]) / 2
        matrix = np.column_stack([turned, centre - turned @ np.full(2, _ONET_SIZE / 2)])
        crop = alignment.sample(image, matrix, _ONET_SIZE)
        # The network was trained on pictures with their axes exchanged.
        batch = ((crop.swapaxes(0, 1)[None] - np.float32(127.5)) / 128).astype(np.float32)
        with memory.translated():
            _, points, confidence = self._onet.run(None, {self._onet.get_inputs()[0].name: batch})
        if not any(face.score >= score and confidence[0, 1] >= second for score, second in _BELIEVED):
            return None
        if confidence[0, 1] < _ONET_SCORE:
            return face
        landmarks = points[0].reshape(2, 5).T * _ONET_SIZE
        return FoundFace(face.score, face.box, alignment.apply(matrix, landmarks))


def _factor(image: Image.Image, longest: int, enlargement: float) -> float:
    return min(enlargement, longest / max(image.size))


def _resized(image: Image.Image, width: int, height: int, thoroughly: bool) -> Image.Image:
    if not thoroughly and image.width > 4 * width:
        # Nine pixels of many are seen of each that is left; what that makes doubtful is searched thoroughly.
        image = image.resize((3 * width, 3 * height), Image.Resampling.NEAREST)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0)


@lru_cache(maxsize=32)
def _anchors(height: int, width: int) -> np.ndarray:
    """Centre and side of every anchor, f32 [M, 3], in the network's order: stride, row, column, size."""
    parts = []
    for stride, sides in _STRIDES.items():
        y, x, side = np.meshgrid(
            (np.arange(height // stride) + 0.5) * stride,
            (np.arange(width // stride) + 0.5) * stride,
            sides,
            indexing="ij",
        )
        parts.append(np.stack([x, y, side], axis=-1).reshape(-1, 3))
    return np.concatenate(parts).astype(np.float32)


def _distinct(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Rows of boxes f [M, 4], best score first, without those that mostly cover a better one."""
    order, kept = list(np.argsort(-scores)), []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while order:
        best, rest = order[0], np.array(order[1:], dtype=int)
        kept.append(int(best))
        low, high = np.maximum(boxes[best, :2], boxes[rest, :2]), np.minimum(boxes[best, 2:], boxes[rest, 2:])
        shared = (high - low).clip(min=0).prod(axis=1)
        order = list(rest[shared / (areas[best] + areas[rest] - shared) <= _OVERLAP])
    return kept
