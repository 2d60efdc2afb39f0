import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import painter
from training import networks
from training.__main__ import main
from training.config import DataConfig
from training.data import dataset, person_masks, shards
from training.data.shards import ShardedFaces

CONFIG = DataConfig(attributes=painter.ATTRIBUTES, image_size=32, crop_box=(0, 20, 178, 198))
FETCHED = networks.SELFIE_SEGMENTATION.is_there()


class Brightness:
    """Stands in for the network: its probability is the picture's brightness, so that masks can be foretold."""

    def __init__(self, network):
        assert network == b"network"

    def __call__(self, picture):
        return np.asarray(picture.convert("L").resize((256, 256), Image.Resampling.BICUBIC), dtype=np.float32) / 255


@pytest.fixture
def segmenter(monkeypatch):
    monkeypatch.setattr(person_masks, "Segmenter", Brightness)
    monkeypatch.setattr(networks.Network, "load", lambda self, directory: b"network")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return painter.write_dataset(tmp_path_factory.mktemp("faces"), train=12, validation=4)


def read(root, partition="train"):
    return dataset.read_index(root, CONFIG.attributes, partition)


@pytest.mark.parametrize("margin", [0, 6])
def test_masks_lie_on_the_framed_pictures(root, tmp_path, segmenter, margin):
    masks = person_masks.load_masks(read(root), CONFIG, tmp_path, margin)
    pixels = dataset.load_pixels(read(root), CONFIG, tmp_path, margin)
    assert masks.shape == (12, 16 + margin, 16 + margin)
    assert masks.dtype == np.uint8
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    halved = grey.reshape(12, 16 + margin, 2, 16 + margin, 2).mean((2, 4))
    shifted = np.abs(masks - np.roll(halved, 1, axis=2)).mean()
    assert np.abs(masks - halved).mean() < 2 < shifted / 3


def test_masks_go_on_where_the_frame_leaves_the_picture(root, tmp_path, segmenter):
    masks = person_masks.load_masks(read(root), CONFIG, tmp_path, 6)
    assert np.array_equal(masks[:, :, 0], masks[:, :, 1])
    assert np.array_equal(masks[:, :, -1], masks[:, :, -2])


def test_masks_are_made_once_and_again_when_something_changes(root, tmp_path, segmenter, monkeypatch):
    first = person_masks.load_masks(read(root), CONFIG, tmp_path, 2)
    monkeypatch.setattr(person_masks, "Segmenter", None)
    assert np.array_equal(person_masks.load_masks(read(root), CONFIG, tmp_path, 2), first)
    monkeypatch.setattr(person_masks, "Segmenter", Brightness)
    person_masks.load_masks(read(root), CONFIG, tmp_path, 4)
    person_masks.load_masks(read(root, "validation"), CONFIG, tmp_path, 2)
    person_masks.load_masks(read(root), CONFIG.model_copy(update={"crop_box": (0, 0, 178, 178)}), tmp_path, 2)
    assert len(list(tmp_path.iterdir())) == 4
    other = networks.Network(**{**vars(networks.SELFIE_SEGMENTATION), "sha256": "0" * 64})
    monkeypatch.setattr(networks, "SELFIE_SEGMENTATION", other)
    person_masks.load_masks(read(root), CONFIG, tmp_path, 2)
    assert len(list(tmp_path.iterdir())) == 5


def test_masks_of_shards_are_those_of_the_layout(root, tmp_path, segmenter):
    shards.write(root, tmp_path / "shards", pictures=5)
    from_shards = person_masks.load_masks(ShardedFaces(tmp_path / "shards", CONFIG, "train"), CONFIG, tmp_path, 2)
    assert np.array_equal(from_shards, person_masks.load_masks(read(root), CONFIG, tmp_path, 2))


def test_unusable_pictures_are_named_and_nothing_is_kept(tmp_path, segmenter):
    data = painter.write_dataset(tmp_path / "data", train=4, validation=2)
    (data / "img_align_celeba" / "000003.jpg").write_bytes(b"no picture")
    with pytest.raises(dataset.DatasetError, match=r"unusable pictures: .*000003\.jpg"):
        person_masks.load_masks(read(data), CONFIG, tmp_path / "cache")
    assert os.listdir(tmp_path / "cache") == []


def test_the_command_makes_both_partitions(root, tmp_path, segmenter, capsys):
    words = ["masks", "--preset", "tests/training/tiny.toml", "--data", str(root), "--cache", str(tmp_path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "train: 12 masks of " in out
    assert "validation: 4 masks of " in out
    assert len(list(tmp_path.glob("persons-*.npy"))) == 2


def test_without_the_network_the_command_says_how_to_get_it(root, tmp_path, capsys):
    words = ["masks", "--preset", "tests/training/tiny.toml", "--data", str(root), "--cache", str(tmp_path)]
    assert main([*words, "--networks", str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert "selfie_segmentation.tflite: No such file or directory" in error
    assert "run `python -m training fetch`" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not FETCHED, reason=f"no network in {Path('weights')}; `python -m training fetch` gets it")
def test_the_network_finds_a_person():
    skimage = pytest.importorskip("skimage.data")
    photograph = Image.fromarray(skimage.astronaut()[:330, 60:330])
    segmenter = person_masks.Segmenter(networks.SELFIE_SEGMENTATION.load())
    mask = segmenter(photograph)
    assert mask.shape == (256, 256)
    assert 0 <= mask.min() <= mask.max() <= 1
    assert mask[40:80, 144:192].mean() > 0.95  # the face
    assert mask[200:].mean() > 0.95  # the suit
    assert mask[:100, :64].mean() < 0.05  # the flag behind
    assert mask[:100, 244:].mean() < 0.05  # the shuttle
