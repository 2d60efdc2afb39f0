"""Lists as comma-separated values; those as text are tested with the data set."""

import csv
import shutil

import numpy as np
import pytest

from tests import painter
from training.__main__ import main
from training.data import dataset, lists, shards

LABELS, PARTITIONS, IDENTITIES = "list_attr_celeba.csv", "list_eval_partition.csv", "identity_CelebA.csv"


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return painter.write_dataset(tmp_path_factory.mktemp("text"), train=8, validation=4)


@pytest.fixture
def root(text, tmp_path):
    """The painted data set with its lists as Kaggle has them."""
    root = tmp_path / "faces"
    shutil.copytree(text, root)
    header = painter.ATTRIBUTES
    for name, columns in ((LABELS, header), (PARTITIONS, ["partition"]), (IDENTITIES, ["identity"])):
        path = (root / name).with_suffix(".txt")
        rows = [line.split() for line in path.read_text().splitlines()[2 if name == LABELS else 0 :]]
        write(root / name, [["image_id", *columns], *rows])
        path.unlink()
    return root


def write(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def replace(path, old, new, count=-1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def read(root, partition="train"):
    return dataset.read_index(root, painter.ATTRIBUTES, partition)


def same(index, other):
    assert (index.names, index.digest()) == (other.names, other.digest())
    assert np.array_equal(index.identities, other.identities)


def test_comma_separated_lists_say_the_same_as_text(root, text):
    for partition in ("train", "validation"):
        same(read(root, partition), read(text, partition))
    assert dataset.attribute_names(root) == painter.ATTRIBUTES
    assert dataset.partitions(root) == ["train", "validation"]


def test_labels_may_be_one_and_zero(root, text):
    replace(root / LABELS, ",-1", ",0")
    same(read(root), read(text))


def test_some_lists_may_be_text(root, text):
    for name in (LABELS, IDENTITIES):
        (root / name).unlink()
        other = (text / name).with_suffix(".txt")
        shutil.copy(other, root / other.name)
    same(read(root), read(text))


def test_identities_are_optional(root):
    (root / IDENTITIES).unlink()
    assert set(read(root).identities.tolist()) == {-1}


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_a_name(root, text):
    for name in (LABELS, PARTITIONS, IDENTITIES):
        data = (root / name).read_bytes()
        (root / name).write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    same(read(root), read(text))


def test_text_may_have_a_byte_order_mark_and_windows_line_ends(text, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(text, copy)
    for path in copy.glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    same(read(copy), read(text))


def test_quotes_spaces_blank_lines_and_the_order_of_columns_do_not_matter(root, text):
    with (root / LABELS).open(newline="") as file:
        rows = [[*row[1:3], row[0], *row[3:]] for row in csv.reader(file)]
    with (root / LABELS).open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(rows[0])
        file.write("\n")
        writer.writerows([f" {field} " for field in row] for row in rows[1:])
    same(read(root), read(text))


@pytest.mark.parametrize("name", [LABELS, PARTITIONS, IDENTITIES])
def test_a_list_of_both_kinds_is_refused_by_both_names(root, text, name):
    other = (text / name).with_suffix(".txt").name
    shutil.copy(text / other, root / other)
    with pytest.raises(dataset.DatasetError, match=rf"{other} and .*{name}: the same list twice; keep one of them"):
        read(root)


def test_a_missing_list_is_named_with_its_other_name(root):
    (root / LABELS).unlink()
    with pytest.raises(dataset.DatasetError, match=rf"list_attr_celeba\.txt: missing; .* or {LABELS} instead"):
        read(root)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (LABELS, "image_id", "picture", r":1: the header must have one column image_id, and has 'picture, Black_Hair"),
        (LABELS, "image_id,", "image_id;", r":1: the header must have one column image_id, and has 'image_id;Black"),
        (LABELS, "Smiling", "image_id", r":1: the header must have one column image_id"),
        (LABELS, "Smiling", "", r":1: column 6 has no name"),
        (LABELS, "Smiling", "Eyeglasses", r": the header names 'Eyeglasses' twice"),
        (LABELS, "000002.jpg,", "000002.jpg,2,", r":3: 000002\.jpg has 7 labels; the header names 6"),
        (LABELS, "000002.jpg", "000001.jpg", r":3: 000001\.jpg stands twice"),
        (LABELS, "000002.jpg", "", r":3: has no image_id"),
        (LABELS, "000002.jpg", '"000002.jpg', r"list_attr_celeba\.csv:\d+: unexpected end of data"),
        (PARTITIONS, "image_id", "name", r":1: the header must have one column image_id"),
        (PARTITIONS, "image_id,", "image_id,source,", r":1: the header has 2 columns beside image_id; expected one"),
        (PARTITIONS, "000002.jpg,0", "000002.jpg,7", r":3: 000002\.jpg has the value '7'; expected one of 0, 1, 2"),
        (PARTITIONS, "000002.jpg,0", "000002.jpg", r":3: 000002\.jpg has the value ''; expected one of 0, 1, 2"),
        (PARTITIONS, "000002.jpg", "000001.jpg", r":3: 000001\.jpg stands twice"),
        (IDENTITIES, ",2\n", ",2147483648\n", r":3: 000002\.jpg has the value '2147483648'; expected a number up to"),
        (IDENTITIES, ",2\n", ",²\n", r":3: 000002\.jpg has the value '²'; expected a number"),
        (IDENTITIES, ",2\n", f",{'9' * 5000}\n", r":3: 000002\.jpg has the value '9"),
    ],
)
def test_a_malformed_list_is_refused_by_line(root, name, old, new, message):
    replace(root / name, old, new, 1)
    with pytest.raises(dataset.DatasetError, match=message):
        read(root)


def relabel(root, row, value):
    """Put `value` for the first label of data row `row`, 1 for the first."""
    path = root / LABELS
    lines = path.read_text().splitlines()
    name, _, *rest = lines[row].split(",")
    lines[row] = ",".join([name, value, *rest])
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("value", ["2", "", "yes", "1.0", "+1"])
def test_a_label_that_is_none_is_refused_by_line(root, value):
    relabel(root, 3, value)
    message = rf":4: 000003\.jpg has the label {value!r}; labels are 1 or -1, or 1 or 0".replace("+", r"\+")
    with pytest.raises(dataset.DatasetError, match=message):
        read(root)


def test_zero_and_minus_one_in_one_list_are_refused(root):
    relabel(root, 5, "0")
    with pytest.raises(dataset.DatasetError, match=r":6: 000005\.jpg is where 0 and -1 meet"):
        read(root)


@pytest.mark.parametrize("kind", ["csv", "txt"])
def test_a_latin_1_header_is_one_line_and_status_2(root, text, tmp_path, capsys, kind):
    data = root
    if kind == "txt":
        data = tmp_path / "copy"
        shutil.copytree(text, data)
    path = data / f"list_attr_celeba.{kind}"
    path.write_bytes(path.read_bytes().replace(b"Smiling", "Lächelnd".encode("latin-1")))
    words = ["masks", "--preset", "tests/training/tiny.toml", "--data", str(data), "--cache", str(tmp_path / "cache")]
    assert main(words) == 2
    line = 1 if kind == "csv" else 2
    assert capsys.readouterr().err == f"error: {path}:{line}: has the byte 0xe4, which is not UTF-8\n"


def test_a_list_that_cannot_be_read_is_named(root):
    (root / LABELS).unlink()
    (root / LABELS).mkdir()
    with pytest.raises(dataset.DatasetError, match=r"list_attr_celeba\.csv: Is a directory"):
        read(root)


def test_kaggles_directory_inside_a_directory_is_named(root):
    (root / "img_align_celeba").rename(root / "inner")
    (root / "img_align_celeba").mkdir()
    (root / "inner").rename(root / "img_align_celeba" / "img_align_celeba")
    with pytest.raises(dataset.DatasetError, match=r"the pictures have to lie in .*/faces/img_align_celeba itself"):
        read(root)


def test_shards_are_written_from_comma_separated_lists(root, text, tmp_path):
    shards.write(root, tmp_path / "ours")
    shards.write(text, tmp_path / "theirs")
    for path in (tmp_path / "theirs").iterdir():
        assert path.read_bytes() == (tmp_path / "ours" / path.name).read_bytes()


@pytest.mark.parametrize(("name", "expected"), [("1.jpg", "1"), ("a.b.PNG", "a.b"), ("1.txt", "1.txt"), ("1", "1")])
def test_the_stem_is_the_name_without_a_pictures_extension(name, expected):
    assert lists.stem(name) == expected
