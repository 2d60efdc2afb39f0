"""The editor's pictures: with a margin, and with a mask of where the person is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from training.data.dataset import FaceIndex, Faces
from training.data.source import CachedFaces


@dataclass(frozen=True)
class EditorFaces(Faces):
    """Faces uint8 [N, H, H, 3] whose `person` uint8 [N, H/2, H/2] is how sure a pixel is the person, 0 to 255."""

    person: np.ndarray

    def rows(self, rows: slice) -> EditorFaces:
        return EditorFaces(self.pixels[rows], self.labels[rows], self.person[rows])

    def first(self, count: int) -> EditorFaces:
        return self.rows(slice(count))

    def centre(self, size: int) -> EditorFaces:
        """The parts of size x size in the middle."""
        count = len(self.pixels)
        return self.cut(size, np.zeros((count, 2), dtype=int), np.zeros(count, dtype=bool))

    def cut(self, size: int, shifts: np.ndarray, mirrored: np.ndarray) -> EditorFaces:
        """The parts of size x size that lie `shifts` int [N, 2] (even; down, right) off the centre, some mirrored."""
        margin = (self.pixels.shape[1] - size) // 2
        count = len(self.pixels)
        pixels = np.empty((count, size, size, 3), dtype=np.uint8)
        person = np.empty((count, size // 2, size // 2), dtype=np.uint8)
        for row, ((down, right), mirror) in enumerate(zip(shifts, mirrored, strict=True)):
            top, left = margin + down, margin + right
            face = self.pixels[row, top : top + size, left : left + size]
            mask = self.person[row, top // 2 : (top + size) // 2, left // 2 : (left + size) // 2]
            pixels[row], person[row] = (face[:, ::-1], mask[:, ::-1]) if mirror else (face, mask)
        return EditorFaces(pixels, self.labels, person)


class CachedEditorFaces(CachedFaces):
    """Pictures that were framed once, and the masks that belong to them, uint8 [N, H/2, H/2]."""

    def __init__(self, index: FaceIndex, pixels: np.ndarray, person: np.ndarray, times: np.ndarray | int = 1) -> None:
        super().__init__(index, pixels, times)
        self.person = person

    def read(self, rows: np.ndarray) -> EditorFaces:
        faces = super().read(rows)
        return EditorFaces(faces.pixels, faces.labels, self.person[self.pictures[rows]])


def times(index: FaceIndex, repeat: Mapping[str, int]) -> np.ndarray:
    """How often each picture of `index` is shown, int [M]: of the attributes it has, as often as `repeat` says of one
    at most. Pictures with several rare attributes are not shown more often than those with one."""
    found = np.ones(len(index), dtype=int)
    for name, count in repeat.items():
        has = index.labels[:, index.attributes.index(name)] > 0
        found[has] = np.maximum(found[has], count)
    return found
