"""Finds faces: RetinaFace says where they are, MTCNN's O-Net places their landmarks more exactly.

Both run on ONNX Runtime, on the CPU and in the thread that asks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from service.faces import geometry, weights
from service.faces.geometry import FoundFace
from service.imaging import alignment
from service.inference import out_of_memory
from service.inference.session import open_session

# RetinaFace (Deng et al. 2020), as its weights were trained.
_STRIDES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}  # and the sides of the two anchors at each place, in pixels
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2
_MEAN = np.array([104, 117, 123], dtype=np.float32)  # of blue, green, red
# Longest sides of the picture that is searched, and how much it may be enlarged for that. Small faces need many pixels.
# Where nobody was found, fewer are tried, which very large faces need, then an enlarged picture, then a turned one.
_FINE, _COARSE, _ENLARGED = (1024, 1.0), (320, 1.0), (1024, 2.0)
# For the largest face alone, of a picture that would be shrunk anyway, a glance may do: if the largest that it suspects
# has at least so many of its pixels, and it is sure of that one, then whatever it overlooks is smaller.
_GLANCE, _LARGE, _SUSPECTED = (448, 1.0), 64, 0.05
# The last resort: the whole picture at so much of its own size and at most so many pixels, in tiles of at most so many
# a side, if that is clearly more than was searched. RetinaFace finds nearly all faces that are 28 pixels wide, and few
# of 14.
_TILED, _MOST_PIXELS, _TILE, _TILE_OVERLAP, _CLEARLY_MORE = 0.77, 14_300_000, 1216, 80, 1.25
# Tiles are made of the picture halved until it would be shorter than this, as a JPEG decoder shrinks it, and enlarged
# at most so much. Faces are found as well and faster, and even a strip of a few pixels' height has few tiles.
_SHORTEST, _MOST_ENLARGED = 2000, 1.6
_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}
_ONET_SIZE = 48
_ONET_SCORE = 0.5  # below, its landmarks are no better than RetinaFace's
# How sure RetinaFace and O-Net must be of a face. Either makes up for what the other misses: O-Net does not know
# profiles; RetinaFace sees faces in blurred backgrounds and overlooks small ones.
_SURE = 0.95
_BELIEVED = ((_SURE, 0.0), (0.8, 0.3), (0.5, 0.9))
_SCORE = min(score for score, _ in _BELIEVED)
# Both know faces within 45 degrees of upright. Where others are RetinaFace mostly knows too, but it takes them for
# upright ones, often with a score above 0.99; O-Net's landmarks are elsewhere then. A face on which they do not agree
# is looked at again in a square around it, of so many pixels, turned to these angles, until they do.
_AGREED, _SQUARE, _ANGLES = 0.8, 128, tuple(math.radians(angle) for angle in (0, 180, 90, 270, 45, 315, 135, 225))
# What they agree on less is the face if it is the best of all angles: turned ones from so much on, and upright ones
# where they are believed, since profiles and covered faces are no better.
_TURNED_AGREED, _UPRIGHT = 0.5, math.radians(60)
# What a picture may cost that is full of faces, or of what looks like some: of each look RetinaFace's best places, of
# each search the largest candidates, and so many looks at turned squares in all. Further candidates are taken as they
# stand.
_MOST_PLACES, _MOST_CANDIDATES, _MOST_TURNED = 2000, 128, 100


@dataclass(frozen=True)
class _Refined:
    """A face with the better landmarks, whether it is believed to be one as it stands, and how far, up to 1, RetinaFace
    and O-Net agree on it: both of their scores count, and how close their landmarks are.
    """

    face: FoundFace
    is_believed: bool
    agreement: float


class _Turns:
    """How many turned looks a picture still gets, and the angle that the last face was certain at."""

    def __init__(self) -> None:
        self.left, self.first = _MOST_TURNED, _ANGLES[0]

    def angles(self) -> Iterator[float]:
        """All angles, while there are looks left. The faces of a picture are mostly turned alike."""
        for angle in sorted(_ANGLES, key=lambda angle: angle != self.first):
            if not self.left:
                return
            self.left -= 1
            yield angle


class Detector:
    """Loads both networks from `directory`. Raises weights.WeightsError. Safe to call from many threads."""

    def __init__(self, directory: Path) -> None:
        self._retinaface, self._onet = (
            open_session(network.load(directory), threads=1) for network in (weights.RETINAFACE, weights.ONET)
        )

    def detect(self, image: Image.Image, largest: bool = False, reduction: float = 1.0) -> list[FoundFace]:
        """The faces of an upright RGB picture, largest first; with `largest` that one alone will do.

        `image` is the picture with its sides divided by `reduction`. Time is bounded: of a crowd the smallest may be
        left out.
        """
        fine, tiled, turns = _factor(image, *_FINE), _tiled_factor(image, reduction), _Turns()
        faces = self._glance(image, turns) if largest and fine < 1 else []
        faces = faces or self._believed(image, self._at(image, fine, _SCORE), turns)
        searched = {fine}
        if not faces:
            faces = next(filter(None, self._last_resorts(image, searched, turns)), [])
        if not faces and tiled > _CLEARLY_MORE * max(searched):
            faces = self._in_tiles(image, tiled, turns)
        elif faces and not largest:
            faces = self._with_others(image, faces, fine, tiled, turns)
        return sorted(faces, key=lambda face: -face.area)

    def _with_others(
        self, image: Image.Image, faces: list[FoundFace], fine: float, tiled: float, turns: _Turns
    ) -> list[FoundFace]:
        """The faces of a search at `fine`, and those that they are a sign of."""
        found, matrix = faces, np.eye(2, 3)
        if count := _most_turns(faces):  # of a picture that lies on its side, or on its head, RetinaFace overlooks more
            matrix = geometry.around(np.array(image.size) / 2, _turned_size(image, count), count * math.pi / 2, 1)
            image = image.transpose(_TURNS[count])
            found = self._believed(image, self._at(image, fine, _SCORE), turns)
        if tiled > _CLEARLY_MORE * fine and _is_crowd(found or faces, fine):
            found = found + self._in_tiles(image, tiled, turns)
        if found is faces:
            return faces
        return geometry.each_once([face.moved(matrix) for face in found] + (faces if count else []))

    def _last_resorts(self, image: Image.Image, searched: set[float], turns: _Turns) -> Iterator[list[FoundFace]]:
        """Who is found in one search after another, once those at the factors `searched` have found nobody."""
        for limits in (_COARSE, _ENLARGED):
            if (factor := _factor(image, *limits)) not in searched:
                searched.add(factor)
                yield self._believed(image, self._at(image, factor, _SCORE), turns)
        yield self._believed(image, self._turned(image), turns)

    def _glance(self, image: Image.Image, turns: _Turns) -> list[FoundFace]:
        """The largest face, if there can be no doubt which it is; a fraction of the time of a thorough search."""
        factor = _factor(image, *_GLANCE)
        seen = max(self._at(image, factor, _SUSPECTED), key=lambda face: face.area, default=None)
        if seen is None or seen.score < _SURE or math.sqrt(seen.area) * factor < _LARGE:
            return []
        return self._believed(image, [seen], turns)

    def _in_tiles(self, image: Image.Image, factor: float, turns: _Turns) -> list[FoundFace]:
        """The faces of the picture at `factor` times its size, in tiles.

        So many pixels hold more that looks like a face; of those that are one, the networks mostly agree.
        """
        shrunk = _halved(image)
        small, factor = image.reduce(shrunk), factor * shrunk
        rows, columns = _intervals(small.height, factor), _intervals(small.width, factor)
        seen = []
        for top, bottom in rows:
            for left, right in columns:
                tile = self._at(small.crop((left, top, right, bottom)), factor, _SCORE)
                matrix = np.array([[1.0, 0, left], [0, 1, top]]) * shrunk
                seen += [face.moved(matrix) for face in tile]
        return self._believed(image, seen, turns, _TURNED_AGREED)

    def _turned(self, image: Image.Image) -> list[FoundFace]:
        """What RetinaFace takes for a face where the picture is turned by one, two and three right angles."""
        factor = _factor(image, *_FINE)
        small = _resized(image, *(max(1, round(side * factor)) for side in image.size), thoroughly=True)
        seen = []
        for count, transpose in _TURNS.items():
            turned, angle = small.transpose(transpose), count * math.pi / 2
            matrix = geometry.around(np.array(image.size) / 2, turned.size, angle, image.width / small.width)
            seen += [face.moved(matrix) for face in self._at(turned, 1.0, _SCORE)]
        return seen

    def _at(self, image: Image.Image, factor: float, score: float) -> list[FoundFace]:
        """What RetinaFace takes for a face, at least so sure, in the picture at `factor` times its size."""
        width, height = (max(1, round(side * factor)) for side in image.size)
        pixels = np.asarray(_resized(image, width, height, thoroughly=score >= _SCORE))
        # Whole strides; the mean colour, which is zero to the network, fills what is missing.
        batch = np.zeros((1, 3, *(32 * math.ceil(side / 32) for side in (height, width))), dtype=np.float32)
        for channel, mean in enumerate(_MEAN):
            np.subtract(pixels[:, :, 2 - channel], mean, out=batch[0, channel, :height, :width])
        with out_of_memory.translated():
            offsets, confidences, points = (part[0] for part in self._retinaface.run(None, {"input": batch}))
        rows = np.flatnonzero(confidences[:, 1] > score)
        if len(rows) > _MOST_PLACES:
            rows = rows[np.argpartition(-confidences[rows, 1], _MOST_PLACES)[:_MOST_PLACES]]
        anchors = _anchors(batch.shape[2], batch.shape[3])[rows]  # [M, 3]: centre and side
        centre, side = anchors[:, :2], anchors[:, 2:]
        middle = centre + _CENTRE_VARIANCE * side * offsets[rows, :2]
        half = 0.5 * side * np.exp(_SIZE_VARIANCE * offsets[rows, 2:])
        boxes, scores = np.concatenate([middle - half, middle + half], axis=1), confidences[rows, 1]
        marks = centre[:, None] + _CENTRE_VARIANCE * side[:, None] * points[rows].reshape(-1, 5, 2)
        back = np.array([image.width / width, image.height / height])
        return [
            FoundFace(float(scores[i]), tuple((boxes[i].reshape(2, 2) * back).ravel().tolist()), marks[i] * back)
            for i in geometry.distinct(boxes, scores)
        ]

    def _believed(
        self, image: Image.Image, seen: list[FoundFace], turns: _Turns, agreement: float = -math.inf
    ) -> list[FoundFace]:
        """Those that are believed to be faces, and on which the networks agree at least so much, each once.

        The others are looked at turned, but for those that are hardly faces in a picture that has some.
        """
        candidates = sorted((face for face in seen if face.score > _SCORE), key=lambda face: -face.area)
        refined = [(face, self._refined(image, face)) for face in candidates[:_MOST_CANDIDATES]]
        faces = [upright.face for _, upright in refined if upright.agreement >= _AGREED]
        unsure = [each for each in refined if each[1].agreement < _AGREED and (each[1].is_believed or not faces)]
        turned = [self._verified(image, face, upright, turns, agreement) for face, upright in unsure]
        return geometry.each_once(faces + [face for face in turned if face is not None])

    def _verified(
        self, image: Image.Image, face: FoundFace, upright: _Refined, turns: _Turns, agreement: float
    ) -> FoundFace | None:
        """The face as it is, whichever way up; None for what is not believed to be one."""
        turned = self._turned_most_agreed(image, face, turns)
        best = upright if turned is None or upright.agreement >= turned.agreement else turned
        if not (upright.is_believed and abs(best.face.roll) < _UPRIGHT):
            agreement = max(agreement, _TURNED_AGREED)
        return best.face if best.agreement >= agreement else None

    def _turned_most_agreed(self, image: Image.Image, face: FoundFace, turns: _Turns) -> _Refined | None:
        """The face at the angle at which the networks agree most; None where RetinaFace sees it at none."""
        if not turns.left:
            return None
        around = geometry.square(face, 0, 3, 3 * _SQUARE // 2)
        patch = Image.fromarray(alignment.sample(image, around, 3 * _SQUARE // 2))
        best = None
        for angle in turns.angles():
            matrix = geometry.around(np.array(patch.size) / 2, (_SQUARE, _SQUARE), angle, 1)
            look = patch.transform(
                (_SQUARE, _SQUARE), Image.Transform.AFFINE, tuple(matrix.ravel()), Image.Resampling.BICUBIC
            )
            seen = self._at(look, 1.0, _SCORE)
            middle = [each for each in seen if np.abs(each.centre - _SQUARE / 2).max() < _SQUARE / 4]
            for each in middle[:1]:
                refined = self._refined(patch, each.moved(matrix))
                if best is None or refined.agreement > best.agreement:
                    best = refined
            if best is not None and best.agreement >= _AGREED:
                turns.first = angle
                break
        return best and replace(best, face=best.face.moved(around))

    def _refined(self, image: Image.Image, face: FoundFace) -> _Refined:
        """The face with O-Net's landmarks, where it sees a face too."""
        matrix = geometry.square(face, face.roll, 1, _ONET_SIZE)
        crop = alignment.sample(image, matrix, _ONET_SIZE)
        # The network was trained on pictures with their axes exchanged.
        batch = ((crop.swapaxes(0, 1)[None] - np.float32(127.5)) / 128).astype(np.float32)
        with out_of_memory.translated():
            _, points, confidences = self._onet.run(None, {self._onet.get_inputs()[0].name: batch})
        landmarks, confidence = (
            alignment.apply(matrix, points[0].reshape(2, 5).T * _ONET_SIZE),
            float(confidences[0, 1]),
        )
        apart = np.linalg.norm(landmarks - face.landmarks, axis=1).mean() / face.side
        return _Refined(
            face if confidence < _ONET_SCORE else FoundFace(face.score, face.box, landmarks),
            any(face.score >= score and confidence >= second for score, second in _BELIEVED),
            face.score * confidence - 3 * float(apart),
        )


def _factor(image: Image.Image, longest: int, enlargement: float) -> float:
    return min(enlargement, longest / max(image.size))


def _tiled_factor(image: Image.Image, reduction: float) -> float:
    most = math.sqrt(_MOST_PIXELS / (image.width * image.height))
    return min(_TILED * reduction, most, _MOST_ENLARGED / _halved(image))


def _halved(image: Image.Image) -> int:
    """The power of two that the picture is divided by before tiles are made of it."""
    return 2 ** max(0, int(math.log2(max(image.size) / _SHORTEST)))


def _is_crowd(faces: list[FoundFace], factor: float) -> bool:
    """Whether all were small in the search at `factor`, so that those in the back are smaller yet."""
    return all(math.sqrt(face.area) * factor < _LARGE for face in faces)


def _resized(image: Image.Image, width: int, height: int, thoroughly: bool) -> Image.Image:
    if not thoroughly and image.width > 4 * width:
        # Nine pixels of many are seen of each that is left; what that makes doubtful is searched thoroughly.
        image = image.resize((3 * width, 3 * height), Image.Resampling.NEAREST)
    return image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0)


def _intervals(length: int, factor: float) -> list[tuple[int, int]]:
    """Begin and end of overlapping tiles along a side, in the picture's pixels."""
    count = max(1, math.ceil((length * factor - _TILE_OVERLAP) / (_TILE - _TILE_OVERLAP)))
    overlap = _TILE_OVERLAP / factor
    tile = (length + (count - 1) * overlap) / count
    return [(round(i * (tile - overlap)), round(i * (tile - overlap) + tile)) for i in range(count)]


def _turned_size(image: Image.Image, count: int) -> tuple[int, int]:
    """Width and height after so many right angles."""
    return image.size[::-1] if count % 2 else image.size


def _most_turns(faces: list[FoundFace]) -> int:
    """By how many right angles most of the faces are turned, 0 to 3."""
    counts = np.bincount([round(face.roll / (math.pi / 2)) % 4 for face in faces], minlength=4)
    return int(counts.argmax())


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
