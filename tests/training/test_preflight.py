"""What a later command would refuse is refused by `fit`, before pictures are decoded."""

import os
import shutil
from collections import namedtuple

import numpy as np
import pytest

from tests import painter
from training import config, preflight
from training.__main__ import main
from training.config import ConfigError
from training.data import shards
from training.data.dataset import DatasetError
from training.preflight import PreflightError

PRESET = "tests/training/tiny.toml"
TINY = """
name = "NAME"
[data]
attributes = ["Smiling", "Eyeglasses"]
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return painter.write_dataset(tmp_path_factory.mktemp("few"), train=32, validation=8)


def fit(data, tmp_path, *more, preset=PRESET):
    where = ["--data", str(data), "--cache", str(tmp_path / "cache"), "--workdir", str(tmp_path / "run")]
    return main(["fit", "--preset", str(preset), *where, "--set", "train.batch_size=8", *more])


def check(data, tmp_path, *overrides, preset=PRESET):
    settings = config.load(str(preset), overrides)
    return preflight.check(settings, str(preset), data, tmp_path / "cache", tmp_path / "run", tmp_path)


def test_what_is_rare_is_doubted(data, tmp_path):
    doubts = check(data, tmp_path)
    assert any("training pictures" in doubt for doubt in doubts)  # of 32, hardly any attribute has 20 of both values
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["Attractive", "attractive"])
def test_an_attribute_that_rates_people_is_refused_at_once(data, tmp_path, capsys, name):
    assert fit(data, tmp_path, "--set", f'data.attributes=["Smiling", "{name}"]') == 2
    assert f"attributes: {name} rates people's looks" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("data.crop_box=[1000, 1000, 1300, 1300]", "must lie in the aligned picture"),
        ("data.landmarks=[[1, 1], [500, 1], [1, 1], [1, 1], [1, 1]]", r"\(500\.0, 1\.0\) lies outside"),
        ("loss.beta=inf", "finite"),
        ("train.learning_rate=nan", "finite|greater than 0"),
        ('name="My Model"', "pattern"),
    ],
)
def test_a_value_that_no_run_can_use_is_refused(override, rule):
    with pytest.raises(ConfigError, match=rule):
        config.load(PRESET, [override])


def test_a_preset_that_is_not_text_is_one_line(tmp_path, capsys, data):
    (tmp_path / "bad.toml").write_bytes('name = "möwe"'.encode("latin-1"))
    assert fit(data, tmp_path, preset=tmp_path / "bad.toml") == 2
    assert "bad.toml: not TOML: 'utf-8' codec" in capsys.readouterr().err


def test_a_pair_of_presets_that_cannot_become_one_bundle_is_refused(data, tmp_path):
    (tmp_path / "mine.toml").write_text(TINY.replace("NAME", "mine"))
    editor = 'stage = "editor"' + TINY.replace("NAME", "mine-editor").replace('"Smiling", ', "")
    (tmp_path / "mine-editor.toml").write_text(editor)
    with pytest.raises(
        PreflightError, match=r"mine-editor\.toml: its data\.attributes is \['Eyeglasses'\]; that of mine"
    ):
        check(data, tmp_path, preset=tmp_path / "mine.toml")


def test_an_attribute_without_an_example_is_refused(tmp_path, capsys):
    data = painter.write_dataset(tmp_path / "data", train=16, validation=4)
    labels = data / "list_attr_celeba.txt"
    lines = labels.read_text().splitlines()
    column = lines[1].split().index("Smiling")
    for row in range(2, len(lines)):
        words = lines[row].split()
        words[1 + column] = "-1"
        lines[row] = " ".join(words)
    labels.write_text("\n".join(lines) + "\n")
    assert fit(data, tmp_path) == 2
    assert capsys.readouterr().err == ("error: data.attributes: 'Smiling': none of the 16 training pictures has it\n")
    assert os.listdir(tmp_path) == ["data"]


def test_held_out_pictures_of_people_in_training_alone_are_refused(tmp_path):
    data = painter.write_dataset(tmp_path / "data", train=32, validation=8)
    people = data / "identity_CelebA.txt"
    people.write_text("".join(f"{line.split()[0]} 7\n" for line in people.read_text().splitlines()))
    with pytest.raises(
        DatasetError, match="0 of 8 validation pictures show people of whom there is no training picture"
    ):
        check(data, tmp_path)


def test_a_partition_that_is_missing_is_found_before_decoding(tmp_path, capsys):
    data = painter.write_dataset(tmp_path / "data", train=16, validation=0)
    assert fit(data, tmp_path) == 2
    assert "no picture in the validation partition" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["data"]


def test_room_for_pixels_and_checkpoints_is_needed(data, tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 2**20, 2**20))
    assert fit(data, tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/cache and {tmp_path}/run: ")
    assert line.endswith("MB are needed for pixels and checkpoints, 1.0 MB are free")
    assert os.listdir(tmp_path) == []


def test_what_is_needed_counts_each_array_that_is_not_there_yet(data, tmp_path):
    settings = config.load(PRESET)
    arrays = preflight._arrays(settings, data)
    side = settings.data.image_size
    # Of training pictures with the margin of fit and with that of the judge, without one for the evaluation.
    assert sorted(shape for shape in arrays.values()) == [
        (8, side, side, 3),
        (32, side, side, 3),
        (32, side + 2, side + 2, 3),
        (32, side + 4, side + 4, 3),
    ]
    assert sum(np.prod(shape) for shape in arrays.values()) < 10**6 < preflight._run_size(settings)


def test_the_names_are_those_under_which_arrays_are_kept(data, tmp_path):
    assert fit(data, tmp_path, "--set", "train.epochs=1") == 0
    kept = {path.stem for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == 2
    assert kept < set(preflight._arrays(config.load(PRESET), data))


def test_four_changed_bytes_in_a_shard_are_found_before_the_first_step(data, tmp_path, capsys):
    shards.write(data, tmp_path / "shards", pictures=8)
    last = sorted((tmp_path / "shards").glob("train-*.tar"))[-1]
    content = bytearray(last.read_bytes())
    place = len(content) // 3
    content[place : place + 4] = bytes(byte ^ 0xFF for byte in content[place : place + 4])
    last.write_bytes(content)
    assert fit(tmp_path / "shards", tmp_path) == 2
    assert f"{last}: " in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", sorted(path.stem for path in config.PRESETS.glob("celeba*.toml")))
def test_the_size_of_every_stages_run_is_known(preset):
    assert 100 * 10**6 < preflight._run_size(config.load(preset)) < 1500 * 10**6
