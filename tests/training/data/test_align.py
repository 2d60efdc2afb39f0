"""Photographs brought into CelebA's layout."""

import csv
import os
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from service.faces.detector import Detector
from service.faces.weights import WeightsError
from tests import painter
from training import files
from training.__main__ import main
from training.config import DataConfig
from training.data import align, dataset
from training.data.align import RefusedError
from training.data.dataset import DatasetError

DATA = DataConfig()
LANDMARKS = np.array(DATA.landmarks)


@dataclass(frozen=True)
class Face:
    landmarks: np.ndarray
    area: float = 100.0


class Finder:
    """Finds given faces in a picture of a given size."""

    def __init__(self, faces):
        self.faces = faces

    def detect(self, image):
        return self.faces.get(image.size, [])


def painted(seed=0):
    rng = np.random.default_rng(seed)
    return painter.paint(painter.random_attributes(rng), rng)


def test_an_aligned_picture_stays_as_it_is():
    image = painted()
    found = align.align(image, Finder({image.size: [Face(LANDMARKS)]}), DATA)
    assert found.shape == (218, 178, 3)
    assert np.abs(found.astype(int) - np.asarray(image)).max() <= 1


def test_a_turned_and_enlarged_face_comes_upright_and_of_one_size():
    image = painted()
    turned = image.resize((356, 436), Image.Resampling.BICUBIC).transpose(Image.Transpose.ROTATE_180)
    landmarks = np.array([356, 436]) - 2 * LANDMARKS
    found = align.align(turned, Finder({turned.size: [Face(landmarks)]}), DATA)
    assert np.abs(found.astype(int) - np.asarray(image)).mean() < 3
    assert painter.read(found[40:188, 15:163]) == painter.read(np.asarray(image)[40:188, 15:163])


@pytest.mark.parametrize(
    ("faces", "reason"),
    [
        ([], "no face was found"),
        ([Face(LANDMARKS, 100), Face(LANDMARKS, 80), Face(LANDMARKS, 10)], "2 faces of about the same size"),
        ([Face(LANDMARKS / 4)], r"the face is too small: 0\.25 pixels"),
    ],
)
def test_a_picture_of_no_use_is_refused_with_the_reason(faces, reason):
    image = painted()
    with pytest.raises(RefusedError, match=reason):
        align.align(image, Finder({image.size: faces}), DATA)


def test_a_much_smaller_face_in_the_background_does_not_matter():
    image = painted()
    finder = Finder({image.size: [Face(LANDMARKS, 100), Face(LANDMARKS, 20)]})
    assert align.align(image, finder, DATA).shape == (218, 178, 3)


@pytest.fixture
def photos(tmp_path):
    """Twelve faces, one picture that shows nobody, one that is none, and labels of all but the last face."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        painted(number).save(folder / f"p{number}.{['jpg', 'png', 'webp'][number % 3]}")
    Image.new("RGB", (90, 90)).save(folder / "nobody.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not a picture, and not looked at")
    rows = [f"p{number}.jpg,{number % 2},1" for number in range(11)] + ["nobody.jpg,0,0", "broken.jpg,1,0"]
    (tmp_path / "labels.csv").write_text("image_id,hat,glasses\n" + "\n".join(rows) + "\n")
    (tmp_path / "people.csv").write_text("image_id,who\n" + "\n".join(f"p{n}.jpg,{n // 3}" for n in range(12)) + "\n")
    return tmp_path


FINDER = Finder({(178, 218): [Face(LANDMARKS)]})


def write(photos, **options):
    return align.write(photos / "photos", photos / "out", FINDER, DATA, photos / "labels.csv", **options)


def test_a_folder_becomes_a_data_set(photos):
    done = write(photos, identities=photos / "people.csv", validation=0.5)
    assert done.pictures == 11
    assert sorted(done.refused) == ["broken.jpg", "nobody.png", "p11.webp"]
    with (photos / "out" / "refused.csv").open() as file:
        assert {row["image_id"]: row["reason"] for row in csv.DictReader(file)} == done.refused
    assert done.refused["nobody.png"] == "no face was found"
    assert done.refused["p11.webp"] == "has no labels"
    train, held_out = (dataset.read_index(photos / "out", ["glasses", "hat"], part) for part in ("train", "validation"))
    assert len(train) + len(held_out) == 11
    assert not set(train.identities) & set(held_out.identities)
    row = held_out.names.index("p9.png") if "p9.png" in held_out.names else train.names.index("p9.png")
    labels = held_out.labels if "p9.png" in held_out.names else train.labels
    assert labels[row].tolist() == [1, 1]
    assert dataset.load_pixels(train, DATA, photos / "cache").shape == (len(train), 64, 64, 3)


def test_who_is_held_out_does_not_depend_on_who_else_is_there(photos):
    write(photos, identities=photos / "people.csv", validation=0.5)
    before = (photos / "out" / "list_eval_partition.csv").read_text().splitlines()
    (photos / "photos" / "p0.jpg").unlink()
    (photos / "out").rename(photos / "first")
    write(photos, identities=photos / "people.csv", validation=0.5)
    after = (photos / "out" / "list_eval_partition.csv").read_text().splitlines()
    assert set(after) == set(before) - {next(line for line in before if line.startswith("p0."))}


def test_without_labels_there_are_pictures_alone(photos):
    done = align.write(photos / "photos", photos / "out", FINDER, DATA)
    assert done.pictures == 12
    assert sorted(os.listdir(photos / "out")) == ["img_align_celeba", "refused.csv"]


def test_nothing_that_can_be_used_leaves_nothing(photos):
    with pytest.raises(DatasetError, match="none of 14 pictures can be used"):
        align.write(photos / "photos", photos / "out", Finder({}), DATA)
    assert sorted(os.listdir(photos)) == ["labels.csv", "people.csv", "photos"]


@pytest.mark.parametrize(
    ("prepare", "rule"),
    [
        (lambda root: (root / "out").mkdir(), "out: exists already"),
        (lambda root: (root / "photos" / "p1.jpg").write_bytes(b""), "two pictures of one stem"),
        (lambda root: (root / "photos").rename(root / "elsewhere"), "photos: No such file or directory"),
        (lambda root: (root / "labels.csv").write_bytes("image_id,Brüste\n".encode("latin-1")), "not UTF-8"),
    ],
)
def test_what_cannot_be_used_is_refused(photos, prepare, rule):
    prepare(photos)
    with pytest.raises(DatasetError, match=rule):
        write(photos)


def test_another_process_at_the_same_directory_is_refused(tmp_path):
    with files.appearing(tmp_path / "out") as first:
        (first / "file").write_text("stays")
        with pytest.raises(BlockingIOError, match="another process"):
            files.appearing(tmp_path / "out").__enter__()
    assert (tmp_path / "out" / "file").read_text() == "stays"


def test_the_services_own_finder_aligns_a_photograph(tmp_path, capsys):
    try:
        Detector("weights")
    except WeightsError as exc:
        pytest.skip(str(exc))
    astronaut = Image.fromarray(pytest.importorskip("skimage.data").astronaut())
    (tmp_path / "photos").mkdir()
    astronaut.save(tmp_path / "photos" / "upright.png")
    astronaut.rotate(20, Image.Resampling.BICUBIC, expand=True).save(tmp_path / "photos" / "turned.png")
    assert main(["align", "--pictures", str(tmp_path / "photos"), "--out", str(tmp_path / "out")]) == 0
    assert f"{tmp_path}/out: 2 pictures of 178 x 218" in capsys.readouterr().out
    upright, turned = (
        np.asarray(Image.open(tmp_path / "out" / "img_align_celeba" / f"{name}.png").convert("L"), dtype=float)
        for name in ("upright", "turned")
    )
    face = slice(70, 180), slice(40, 140)
    assert np.corrcoef(upright[face].ravel(), turned[face].ravel())[0, 1] > 0.95


def test_without_the_finders_weights_it_says_what_to_do(tmp_path, capsys, photos):
    words = ["align", "--pictures", str(photos / "photos"), "--out", str(tmp_path / "out"), "--networks", str(tmp_path)]
    assert main(words) == 2
    assert "python -m service.weights" in capsys.readouterr().err
