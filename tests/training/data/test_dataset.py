import shutil

import numpy as np
import pytest
from PIL import Image

from tests import painter
from training.config import DataConfig
from training.data import dataset

CONFIG = DataConfig(attributes=painter.ATTRIBUTES, image_size=32)


@pytest.fixture
def root(tmp_path):
    return painter.write_dataset(tmp_path / "faces", train=12, validation=4)


def read(root, partition="train", limit=None):
    return dataset.read_index(root, painter.ATTRIBUTES, partition, limit)


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_partitions_follow_the_official_file(root):
    assert (len(read(root)), len(read(root, "validation"))) == (12, 4)
    assert read(root, limit=5).names == [f"{n:06d}.jpg" for n in range(1, 6)]
    with pytest.raises(dataset.DatasetError, match="no picture in the test partition"):
        read(root, "test")


def test_columns_come_in_the_order_requested(root):
    reversed_names = painter.ATTRIBUTES[::-1]
    index = dataset.read_index(root, reversed_names, "train")
    assert np.array_equal(index.labels, read(root).labels[:, ::-1])
    assert index.identities.tolist() == list(range(1, 13))


@pytest.mark.parametrize("name", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"])
def test_a_missing_file_is_named(root, name):
    shutil.move(root / name, root / "elsewhere")
    with pytest.raises(dataset.DatasetError, match=f"{root / name}: missing"):
        read(root)


def test_identities_are_optional(root):
    (root / "identity_CelebA.txt").unlink()
    assert set(read(root).identities.tolist()) == {-1}


def test_strangers_are_those_whom_the_other_pictures_do_not_show(root):
    path = root / "identity_CelebA.txt"
    replace(path, "000014.jpg 14", "000014.jpg 3")
    replace(path, "000016.jpg 16\n", "")
    assert dataset.strangers(read(root, "validation"), read(root)).tolist() == [True, False, True, True]


def test_a_label_without_an_image_is_named(root):
    (root / "img_align_celeba" / "000003.jpg").unlink()
    with pytest.raises(dataset.DatasetError, match=r"labels without an image: .*img_align_celeba/000003\.jpg"):
        read(root)


def test_an_image_without_a_label_is_named(root):
    shutil.copy(root / "img_align_celeba" / "000003.jpg", root / "img_align_celeba" / "stray.jpg")
    with pytest.raises(dataset.DatasetError, match=r"images without a label: .*stray\.jpg"):
        read(root)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpeg", ".JPG", ".WebP"])
def test_a_picture_belongs_to_its_lines_by_stem(root, tmp_path, suffix):
    before = read(root)
    path = root / "img_align_celeba" / "000003.jpg"
    other = path.with_name(f"000003{suffix}")
    with Image.open(path) as picture:
        painted = np.asarray(picture)
    path.unlink()
    Image.fromarray(painted).save(other, quality=95)
    index = read(root)
    assert index.names == [other.name if n == "000003.jpg" else n for n in before.names]
    assert index.path(2) == other
    assert np.array_equal(index.labels, before.labels)
    assert np.array_equal(index.identities, before.identities)
    assert dataset.load_pixels(index, CONFIG, tmp_path / "cache").shape == (12, 32, 32, 3)


def test_rows_are_in_the_order_of_the_lists_whatever_the_files_are_called(root):
    for path in sorted((root / "img_align_celeba").iterdir())[::2]:
        path.rename(path.with_suffix(".webp"))
    names = read(root).names
    assert [name[:6] for name in names] == [f"{n:06d}" for n in range(1, 13)]
    assert {name[6:] for name in names} == {".jpg", ".webp"}


def test_lists_may_name_other_extensions_than_each_other(root):
    for name in ("list_eval_partition.txt", "identity_CelebA.txt"):
        path = root / name
        path.write_text(path.read_text().replace(".jpg", ".png"))
    assert read(root).identities.tolist() == list(range(1, 13))


def test_two_pictures_of_one_stem_are_refused_by_path(root):
    path = root / "img_align_celeba" / "000003.jpg"
    shutil.copy(path, path.with_suffix(".webp"))
    message = r"img_align_celeba/000003\.jpg and .*img_align_celeba/000003\.webp: two pictures of one stem"
    with pytest.raises(dataset.DatasetError, match=message):
        read(root)


def test_two_labels_of_one_stem_are_refused_by_line(root):
    replace(root / "list_attr_celeba.txt", "000002.jpg", "000001.png")
    with pytest.raises(dataset.DatasetError, match=r":4: 000001\.png stands twice"):
        read(root)


def test_a_file_that_is_no_picture_belongs_to_no_label(root):
    path = root / "img_align_celeba" / "000003.jpg"
    path.rename(path.with_suffix(".txt"))
    with pytest.raises(dataset.DatasetError, match=r"labels without an image: .*000003\.jpg"):
        read(root)


def test_an_image_without_a_partition_is_named(root):
    replace(root / "list_eval_partition.txt", "000002.jpg 0\n", "")
    with pytest.raises(dataset.DatasetError, match=r"list_eval_partition\.txt: no line for 000002\.jpg"):
        read(root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("16\n", "17\n", "line 1 promises 17 pictures, 16 follow"),
        ("16\n", "many\n", r":1: expected the number of pictures, found 'many'"),
        ("000002.jpg", "000001.jpg", r":4: 000001\.jpg stands twice"),
        ("000002.jpg ", "000002.jpg 1 ", r":4: 000002\.jpg has 7 labels; the header names 6"),
        ("000002.jpg -1", "000002.jpg 0", r":4: 000002\.jpg has the label '0'; labels are -1 or 1"),
    ],
)
def test_a_malformed_label_file_is_refused_by_line(root, old, new, message):
    path = root / "list_attr_celeba.txt"
    lines = path.read_text().replace("000002.jpg 1", "000002.jpg -1", 1)
    path.write_text(lines)
    replace(path, old, new)
    with pytest.raises(dataset.DatasetError, match=message):
        read(root)


def test_a_partition_that_does_not_exist_is_refused_by_line(root):
    replace(root / "list_eval_partition.txt", "000002.jpg 0", "000002.jpg 7")
    with pytest.raises(dataset.DatasetError, match=r":2: 000002\.jpg has the value '7'; expected one of 0, 1, 2"):
        read(root)


def test_an_attribute_that_does_not_exist_is_named(root):
    with pytest.raises(dataset.DatasetError, match="has no attribute 'Monocle'; it has Black_Hair"):
        dataset.read_index(root, ["Monocle"], "train")


@pytest.mark.parametrize("damage", ["truncated", "text", "small"])
def test_every_unusable_picture_is_named_and_nothing_is_cached(root, tmp_path, damage):
    path = root / "img_align_celeba" / "000004.jpg"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:900])
    elif damage == "text":
        path.write_text("not a picture")
    else:
        painter.paint(painter.random_attributes(np.random.default_rng(0)), np.random.default_rng(0)).resize(
            (90, 110)
        ).save(path)
    with pytest.raises(dataset.DatasetError, match=r"unusable pictures: .*000004\.jpg"):
        dataset.load_pixels(read(root), CONFIG, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_pixels_are_decoded_once_and_again_when_something_changes(root, tmp_path):
    cache = tmp_path / "cache"
    first = dataset.load_pixels(read(root), CONFIG, cache, margin=2)
    assert first.shape == (12, 36, 36, 3)
    stored = list(cache.iterdir())
    again = dataset.load_pixels(read(root), CONFIG, cache, margin=2)
    assert np.array_equal(first, again)
    assert list(cache.iterdir()) == stored
    dataset.load_pixels(read(root), CONFIG, cache, margin=1)
    dataset.load_pixels(read(root, limit=6), CONFIG, cache, margin=2)
    assert len(list(cache.iterdir())) == 3


def test_the_margin_surrounds_the_crop(root, tmp_path):
    with_margin = dataset.load_pixels(read(root), CONFIG, tmp_path, margin=2)
    without = dataset.load_pixels(read(root), CONFIG, tmp_path)
    inner = with_margin[:, 3:-3, 3:-3].astype(int)
    assert np.abs(inner - without[:, 1:-1, 1:-1].astype(int)).max() <= 2


def test_augmentation_shifts_and_mirrors():
    pixels = np.arange(6 * 6 * 3, dtype=np.uint8).reshape(1, 6, 6, 3)
    rows, offsets = np.array([0, 0]), np.array([[0, 2], [1, 1]])
    batch = dataset.augmented(pixels, rows, 4, offsets, np.array([False, True]))
    assert np.array_equal(batch[0], pixels[0, 0:4, 2:6])
    assert np.array_equal(batch[1], pixels[0, 1:5, 1:5][:, ::-1])


def test_the_digest_changes_with_a_label(root):
    before = read(root).digest()
    path = root / "list_attr_celeba.txt"
    name, first, rest = path.read_text().splitlines()[2].split(" ", 2)
    replace(path, f"{name} {first} {rest}", f"{name} {'-1' if first == '1' else '1'} {rest}")
    assert read(root).digest() != before


def test_faces_lose_their_margin():
    pixels = np.arange(2 * 6 * 6 * 3).reshape(2, 6, 6, 3)
    assert np.array_equal(dataset.without_margin(pixels, 4), pixels[:, 1:5, 1:5])
