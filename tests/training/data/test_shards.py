import fcntl
import json
import os
import resource
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import painter
from training import checkpoint, config
from training.__main__ import main
from training.config import DataConfig
from training.data import dataset, shards
from training.data.shards import ShardedFaces

CONFIG = DataConfig(attributes=["Smiling", "Eyeglasses", "Pale_Skin"], image_size=32, shuffle_window=16)
CELEBA = Path(os.environ.get("FACET_CELEBA", "data/celeba"))


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return painter.write_dataset(tmp_path_factory.mktemp("layout"), train=43, validation=6)


@pytest.fixture(scope="module")
def written(layout, tmp_path_factory):
    out = tmp_path_factory.mktemp("written") / "shards"
    shards.write(layout, out, pictures=10)
    return out


def changed(root, **values):
    path = root / shards.MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def copy(layout, tmp_path):
    out = tmp_path / "copy"
    shards.write(layout, out, pictures=10)
    return out


def test_the_command_writes_every_partition(layout, tmp_path, capsys):
    out = tmp_path / "deep" / "shards"
    assert main(["shard", "--data", str(layout), "--out", str(out), "--pictures", "20"]) == 0
    expected = ["shards.json", *(f"train-00000{n}.tar" for n in range(3)), "validation-000000.tar"]
    assert sorted(path.name for path in out.iterdir()) == expected
    assert "train: 43 pictures in 3 shards" in capsys.readouterr().out
    assert os.listdir(out.parent) == ["shards"]
    assert main(["shard", "--data", str(layout), "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_pictures_labels_and_names_are_those_of_the_layout(layout, written, tmp_path):
    index = dataset.read_index(layout, CONFIG.attributes, "train")
    pixels = dataset.load_pixels(index, CONFIG, tmp_path, margin=2)
    source = ShardedFaces(written, CONFIG, "train", margin=2)
    rows = np.array([42, 0, 9, 10, 11, 42])
    faces = source.read(rows)
    assert np.array_equal(faces.pixels, pixels[rows])
    assert np.array_equal(faces.labels, index.labels[rows])
    np.testing.assert_allclose(source.frequencies(), (index.labels > 0).mean(0))
    found, unpacked = source.unpack(tmp_path / "cache")
    assert np.array_equal(unpacked, pixels)
    assert (found.names, found.digest()) == (index.names, index.digest())
    assert np.array_equal(found.identities, index.identities)


def test_the_same_data_give_the_same_bytes(written, copy):
    for path in written.iterdir():
        assert path.read_bytes() == (copy / path.name).read_bytes()


def test_webdataset_reads_them(layout, written):
    tariterators = pytest.importorskip("webdataset.tariterators")
    samples = []
    for path in sorted(written.glob("train-*.tar")):
        with path.open("rb") as stream:
            samples += tariterators.group_by_keys(tariterators.tar_file_expander([{"url": path, "stream": stream}]))
    index = dataset.read_index(layout, painter.ATTRIBUTES, "train")
    assert len(samples) == len(index) == 43
    for row, sample in enumerate(samples):
        assert sample["jpg"] == index.path(row).read_bytes()
        facts = json.loads(sample["json"])
        assert facts["name"] == index.names[row]
        assert list(facts["attributes"].values()) == index.labels[row].tolist()


def test_a_limit_keeps_the_first_pictures_for_training_only(layout, written):
    limited = CONFIG.model_copy(update={"limit": 25})
    source = ShardedFaces(written, limited, "train")
    assert len(source) == 25
    index = dataset.read_index(layout, CONFIG.attributes, "train", 25)
    np.testing.assert_allclose(source.frequencies(), (index.labels > 0).mean(0))
    assert sorted(source.order(1, 0, 0, 25).tolist()) == list(range(25))
    assert source.digest() != ShardedFaces(written, CONFIG, "train").digest()
    assert len(ShardedFaces(written, limited, "validation")) == 6


def test_an_epoch_shows_every_picture_once_and_the_next_in_another_order(written):
    source = ShardedFaces(written, CONFIG, "train")
    first, second = (source.order(1, epoch, 0, 43) for epoch in (0, 1))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(43))
    assert first.tolist() != second.tolist()
    assert source.order(2, 0, 0, 43).tolist() != first.tolist()
    again = ShardedFaces(written, CONFIG, "train")
    pieces = [again.order(1, 0, start, min(start + 7, 43)) for start in (35, 0, 21, 7, 42, 14, 28)]
    assert pieces[2].tolist() == first[21:28].tolist()
    assert set(np.concatenate(pieces).tolist()) == set(range(43))


def test_a_stretch_touches_few_shards(written):
    source = ShardedFaces(written, CONFIG.model_copy(update={"shuffle_window": 10}), "train")
    order = source.order(1, 0, 0, 43)
    for start in range(0, 40, 10):
        assert len({row // 10 for row in order[start : start + 10]}) <= 3


def test_no_more_shards_stay_open_than_two_stretches_need(layout, tmp_path):
    out = tmp_path / "shards"
    shards.write(layout, out, pictures=1)
    source = ShardedFaces(out, CONFIG.model_copy(update={"shuffle_window": 2}), "train")
    before = len(os.listdir("/proc/self/fd"))
    order = source.order(1, 0, 0, 43)
    for start in range(0, 43, 2):
        source.read(order[start : start + 2])
        assert len(os.listdir("/proc/self/fd")) - before <= 8


def test_a_picture_keeps_its_own_bytes_and_extension(tmp_path):
    data = painter.write_dataset(tmp_path / "data", train=4, validation=2)
    path = data / "img_align_celeba" / "000003.jpg"
    with Image.open(path) as picture:
        picture.save(path.with_suffix(".WEBP"))
    path.unlink()
    out = tmp_path / "shards"
    shards.write(data, out)
    with tarfile.open(out / "train-000000.tar") as tar:
        assert tar.getnames()[4:6] == ["00000002.webp", "00000002.json"]
        assert tar.extractfile("00000002.webp").read() == path.with_suffix(".WEBP").read_bytes()
    index = dataset.read_index(data, CONFIG.attributes, "train")
    found, pixels = ShardedFaces(out, CONFIG, "train").unpack(tmp_path / "cache")
    assert found.names == index.names
    assert np.array_equal(pixels, dataset.load_pixels(index, CONFIG, tmp_path / "cache"))


def test_an_unusable_picture_is_named_and_nothing_is_left(layout, tmp_path):
    data = painter.write_dataset(tmp_path / "data", train=4, validation=2)
    (data / "img_align_celeba" / "000003.jpg").write_bytes(b"no picture")
    with pytest.raises(dataset.DatasetError, match=r"unusable picture: .*000003\.jpg"):
        shards.write(data, tmp_path / "shards")
    assert sorted(os.listdir(tmp_path)) == ["data"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, r"shards\.json: format: "),
        ({"extra": 1}, r"shards\.json: extra: "),
        ({"attributes": ["Smiling"]}, r"has no attribute 'Eyeglasses'; it has Smiling"),
        ({"partitions": {}}, r"no picture in the train partition"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(copy, change, message):
    changed(copy, **change)
    with pytest.raises(dataset.DatasetError, match=message):
        ShardedFaces(copy, CONFIG, "train")


def test_a_damaged_shard_is_refused_by_name(copy):
    path = copy / "train-000001.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:-512])
    with pytest.raises(dataset.DatasetError, match=r"train-000001\.tar: has \d+ bytes; shards\.json says"):
        ShardedFaces(copy, CONFIG, "train").read(np.array([12]))
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(dataset.DatasetError, match=r"train-000001\.tar: "):
        ShardedFaces(copy, CONFIG, "train").read(np.array([12]))
    path.unlink()
    with pytest.raises(dataset.DatasetError, match=r"train-000001\.tar: No such file"):
        ShardedFaces(copy, CONFIG, "train").read(np.array([12]))


@pytest.mark.parametrize("member", ["00000012.jpg", "00000012.json"])
def test_a_damaged_picture_is_named_by_shard_and_place(copy, member):
    path = copy / "train-000001.tar"
    with tarfile.open(path) as tar:
        place = tar.getmember(member).offset_data
    data = bytearray(path.read_bytes())
    data[place : place + 64] = bytes(64)
    path.write_bytes(data)
    with pytest.raises(dataset.DatasetError, match=r"train-000001\.tar: picture 2: "):
        ShardedFaces(copy, CONFIG, "train").read(np.array([11, 12]))


def change_bytes(path, member, before_end=40):
    """Four bytes of a picture's scan, which leave it a picture that can be decoded, or of its facts."""
    with tarfile.open(path) as tar:
        found = tar.getmember(member)
    data = bytearray(path.read_bytes())
    place = found.offset_data + found.size - before_end
    data[place : place + 4] = bytes(byte ^ 1 for byte in data[place : place + 4])
    path.write_bytes(data)


def test_four_changed_bytes_are_noticed_when_a_shard_is_first_opened(copy):
    path = copy / "train-000001.tar"
    change_bytes(path, "00000012.jpg")
    source = ShardedFaces(copy, CONFIG, "train")
    source.read(np.array([0, 9, 20]))  # of other shards
    message = (
        r"train-000001\.tar: has other bytes than were written: sha256 [0-9a-f]{64}, shards\.json says [0-9a-f]{64}"
    )
    for row in (10, 12):  # whether it is the picture asked for or not, and again
        with pytest.raises(dataset.DatasetError, match=message):
            source.read(np.array([row]))


def test_a_changed_label_is_noticed(copy):
    path = copy / "train-000001.tar"
    data = path.read_bytes()
    changed = data.replace(b'"identity":12,', b'"identity":13,', 1)
    assert changed != data
    path.write_bytes(changed)
    with pytest.raises(dataset.DatasetError, match=r"train-000001\.tar: has other bytes than were written"):
        ShardedFaces(copy, CONFIG, "train").index()


def test_a_shard_is_compared_once(copy, monkeypatch):
    compared = []
    whole = shards.sha256_file
    monkeypatch.setattr(shards, "sha256_file", lambda path: compared.append(path.name) or whole(path))
    source = ShardedFaces(copy, CONFIG, "train")
    monkeypatch.setattr(source, "_most_open", 1)
    for _ in range(2):
        source.read(np.array([0, 10, 1, 11]))
    assert sorted(compared) == ["train-000000.tar", "train-000001.tar"]


def test_fit_refuses_a_changed_shard_in_one_line(copy, tmp_path, capsys):
    change_bytes(copy / "train-000003.tar", "00000035.jpg")
    words = ["fit", "--preset", "tests/training/tiny.toml", "--data", str(copy), "--workdir", str(tmp_path / "run")]
    assert main([*words, "--set", "train.epochs=1", "--set", "train.batch_size=8"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"error: {copy}/train-000003.tar: has other bytes than were written")


def test_what_a_killed_process_left_does_not_stay(layout, tmp_path):
    (tmp_path / ".out.part").mkdir()
    (tmp_path / ".out.part" / "train-000099.tar").write_bytes(bytes(100))
    shards.write(layout, tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]
    assert sorted(os.listdir(tmp_path / "out")) == ["shards.json", "train-000000.tar", "validation-000000.tar"]


def test_two_processes_do_not_write_the_same(layout, tmp_path):
    (tmp_path / ".out.part").mkdir()
    other = os.open(tmp_path / ".out.part", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(dataset.DatasetError, match=r"\.out\.part: another process is writing there"):
        shards.write(layout, tmp_path / "out")
    os.close(other)
    shards.write(layout, tmp_path / "out")


def test_a_full_disk_is_one_line_and_leaves_nothing(layout, tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # an error of the same kind
    try:
        assert main(["shard", "--data", str(layout), "--out", str(tmp_path / "out")]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {tmp_path / 'out'}: cannot be written: File too large"
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not (CELEBA / "img_align_celeba").is_dir(), reason=f"no CelebA at {CELEBA}; FACET_CELEBA names it")
def test_celeba_is_read_back_bit_for_bit(tmp_path):
    few_only = DataConfig(limit=300)
    few = tmp_path / "few"
    first_pictures(CELEBA, few, train=300, validation=20)
    shards.write(few, tmp_path / "shards", pictures=64)
    index = dataset.read_index(few, few_only.attributes, "train")
    pixels = dataset.load_pixels(index, few_only, tmp_path / "cache", margin=6)
    source = ShardedFaces(tmp_path / "shards", few_only, "train", margin=6)
    rows = source.order(1, 0, 0, 300)
    faces = source.read(rows)
    assert np.array_equal(faces.pixels, pixels[rows])
    assert np.array_equal(faces.labels, index.labels[rows])


def first_pictures(root, out, train, validation):
    """A directory in CelebA's layout of the first pictures of two partitions of another, by links."""
    (out / dataset.IMAGES).mkdir(parents=True)
    partitions = dict(line.split() for line in (root / dataset.PARTITIONS).read_text().splitlines() if line)
    names = sorted(partitions)
    kept = [n for n in names if partitions[n] == "0"][:train] + [n for n in names if partitions[n] == "1"][:validation]
    _, header, *lines = (root / dataset.LABELS).read_text().splitlines()
    labels = {line.split()[0]: line for line in lines if line}
    (out / dataset.LABELS).write_text("\n".join([str(len(kept)), header, *(labels[n] for n in kept)]) + "\n")
    (out / dataset.PARTITIONS).write_text("\n".join(f"{n} {partitions[n]}" for n in kept) + "\n")
    files = {path.stem: path for path in (root / dataset.IMAGES).iterdir()}
    for path in (files[Path(name).stem] for name in kept):
        (out / dataset.IMAGES / path.name).symlink_to(path)


def test_every_command_takes_shards(written, tmp_path):
    common = ["--preset", "tests/training/tiny.toml", "--data", str(written), "--cache", str(tmp_path / "cache")]
    run = tmp_path / "run"
    sets = [word for item in ("train.epochs=1", "train.batch_size=8") for word in ("--set", item)]
    assert main(["fit", *common, *sets, "--workdir", str(run)]) == 0
    assert not (tmp_path / "cache").exists()  # fit streams
    state = checkpoint.load(run / "last.pt")
    assert state["step"] == 5
    assert state["data_sha256"] == ShardedFaces(written, config.parse(state["config"]).data, "train").digest()
    judging = ["--seed", "1", "--epochs", "2", "--batch-size", "8", "--out", str(run / "classifier.pt")]
    assert main(["judge", *common, *judging]) == 0
    calibrating = [
        "--workdir",
        str(run),
        "--classifier",
        str(run / "classifier.pt"),
        "--pictures",
        "20",
        "--gains",
        "1",
    ]
    assert main(["calibrate", *common[2:], *calibrating]) == 0
    assert checkpoint.load(run / "calibrated.pt")["gains"]
