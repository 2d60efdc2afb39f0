from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests import painter
from training.data import dataset
from training.evaluation import material, realism, references


class Means:
    """Features that are a picture's mean colours; it counts the pictures that it saw."""

    size = 3
    seen = 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.seen += len(pixels)
        return pixels.mean((1, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def celeba(tmp_path_factory):
    return painter.write_dataset(tmp_path_factory.mktemp("celeba"), train=40, validation=20)


def parts(root):
    found = [dataset.read_index(root, painter.ATTRIBUTES, partition) for partition in ("validation", "train")]
    return [(index, index.labels) for index in found]


def test_real_pictures_are_seen_once_and_kept(celeba, tmp_path):
    features = Means()
    real = references.gather(parts(celeba), painter.ATTRIBUTES, features, painter.CROP, tmp_path)
    assert features.seen == len(real.labels) == len(real.features) == 60
    again = references.gather(parts(celeba), painter.ATTRIBUTES, features, painter.CROP, tmp_path)
    assert features.seen == 60
    assert np.array_equal(again.features, real.features)
    assert np.array_equal(again.labels, real.labels)


def test_held_out_pictures_come_first_and_other_file_formats_not_at_all(celeba, tmp_path):
    images = celeba / dataset.IMAGES
    for path in sorted(images.iterdir())[:10]:  # of the training partition
        Image.open(path).save(path.with_suffix(".webp"), quality=60)
        path.unlink()
    real = references.gather(parts(celeba), painter.ATTRIBUTES, Means(), painter.CROP, tmp_path)
    assert len(real.labels) == 50
    held_out = dataset.read_index(celeba, painter.ATTRIBUTES, "validation")
    assert sorted(map(tuple, real.labels[:20])) == sorted(map(tuple, held_out.labels))


def test_only_as_many_references_as_are_needed():
    labels = np.ones((50, 2), dtype=np.int8)
    labels[45:, 0] = -1
    names = ["Smiling", "Eyeglasses"]
    assert realism.references(labels, names, most=8).tolist() == [*range(8), *range(45, 50)]


def test_strangers_alone_are_edited(celeba):
    held_out, train = (dataset.read_index(celeba, painter.ATTRIBUTES, part) for part in ("validation", "train"))
    train.identities[:] = 7
    held_out.identities[:] = np.arange(20) + 100
    held_out.identities[:12] = 7
    known = [material.Partition(index, index) for index in (held_out, train)]
    faces, requested = material.photographs(*known, each=2)
    strangers = {held_out.encoded(row) for row in range(12, 20)}
    assert set(faces.files) <= strangers
    assert requested.any(1).all()
    assert faces.pixels.shape[1:] == (218, 178, 3)
    held_out.identities[:] = 7
    with pytest.raises(dataset.DatasetError, match="nobody new"):
        material.photographs(*known, each=2)
