import numpy as np

from training.data.dataset import FaceIndex
from training.editor import source
from training.editor.source import CachedEditorFaces


def index():
    labels = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]], dtype=np.int8)
    files = [f"{number}.jpg" for number in range(4)]
    return FaceIndex(None, files, ["Bald", "Gray_Hair"], labels, np.zeros(4, dtype=np.int32))


def test_a_picture_is_shown_as_often_as_the_rarest_of_its_attributes():
    assert source.times(index(), {"Bald": 2, "Gray_Hair": 5}).tolist() == [1, 2, 5, 5]
    assert source.times(index(), {"Gray_Hair": 5, "Bald": 2}).tolist() == [1, 2, 5, 5]
    assert source.times(index(), {}).tolist() == [1, 1, 1, 1]


def test_a_repeated_picture_keeps_its_mask():
    number = np.arange(4, dtype=np.uint8)[:, None, None]
    pixels, person = number[..., None] * np.ones((1, 4, 4, 3), np.uint8), 10 * number * np.ones((1, 2, 2), np.uint8)
    faces = CachedEditorFaces(index(), pixels, person, np.array([1, 3, 1, 2]))
    found = faces.read(np.arange(len(faces)))
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1, 1, 1, 2, 3, 3]
    assert found.person[:, 0, 0].tolist() == [0, 10, 10, 10, 20, 30, 30]
