"""Presets with a table of attributes of their own."""

import json

import numpy as np
import pytest
import torch

from export import writer
from tests import painter
from tests.training.trainers import make_trainer
from training import attributes, config, preflight
from training.__main__ import main
from training.config import ConfigError
from training.data import dataset, shards
from training.data.dataset import DatasetError
from training.data.shards import ShardedFaces
from training.evaluation import inverted, tally

PRESET = """
name = "mine"

[attributes.Black_Hair]
group = "shade"

[attributes.Pale]
description = "light skin in the photograph"
sensitive = true
group = "shade"
aliases = ["pale", "Pale_Skin"]

[attributes.Smiling]

[data]
image_size = 32

[model]
encoder_channels = [8, 8]
decoder_channels = [8, 8]

[opponent]
channels = [8, 8]

[train]
batch_size = 8
epochs = 1
"""


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(PRESET)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return painter.write_dataset(tmp_path_factory.mktemp("few"), train=32, validation=8)


def test_the_table_names_and_describes_the_attributes(preset):
    data = config.load(str(preset)).data
    assert data.attributes == ["Black_Hair", "Pale", "Smiling"]
    info = attributes.describe("Pale", data.about)
    assert (info.description, info.group, info.sensitive) == ("light skin in the photograph", "shade", True)
    assert attributes.describe("Smiling", data.about) == attributes.describe("Smiling")
    black = attributes.describe("Black_Hair", data.about)
    assert (black.description, black.group) == ("black hair", "shade")
    exported = writer._attribute("Pale", 1.0, {}, data)
    assert (exported.group, exported.sensitive, exported.aliases) == ("shade", True, ["Pale_Skin"])


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ('name = "mine"\nattributes = ["Smiling"]', "must be a table of tables"),
        ('name = "mine"\n[attributes.Smiling]\ndescripton = "a smile"', r"descripton'; did you mean 'description'\?"),
        ('name = "mine"\n[attributes.Hat]\n[data]\nattributes = ["Smiling"]', r"attributes\.Hat: is not one of data\."),
        ('name = "mine"\n[attributes.Smiling]\naliases = ["not:a name"]', "pattern"),
        ('name = "mine"\n[attributes.Smiling]\naliases = ["attractive"]', "rates people's looks"),
        (
            'name = "mine"\n[attributes.Smiling]\naliases = ["Hat"]\n[attributes.HAT]',
            r"attributes\.Smiling\.aliases: 'Hat' is a name of HAT too",
        ),
        ('name = "mine"\n[attributes."a b"]', "may have letters, digits"),
        ('name = "mine"\n[attributes.Hat]\nsensitive = "perhaps"', r"data\.about\.Hat\.sensitive"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, text, rule):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ConfigError, match=rule):
        config.load(str(tmp_path / "mine.toml"))


def test_what_show_prints_of_it_can_be_read(preset, tmp_path, capsys):
    assert main(["show", str(preset)]) == 0
    (tmp_path / "shown.toml").write_text(capsys.readouterr().out)
    assert config.load(str(tmp_path / "shown.toml")) == config.load(str(preset))


def test_columns_are_found_by_their_aliases(preset, data, tmp_path):
    settings = config.load(str(preset)).data
    index = dataset.index_of(data, settings, "train")
    plain = dataset.read_index(data, ["Black_Hair", "Pale_Skin", "Smiling"], "train")
    assert np.array_equal(index.labels, plain.labels)
    assert index.attributes == ["Black_Hair", "Pale", "Smiling"]
    shards.write(data, tmp_path / "shards", pictures=10)
    sharded = ShardedFaces(tmp_path / "shards", settings, "train")
    assert np.array_equal(sharded.index().labels, plain.labels)
    assert np.array_equal(sharded.read(np.arange(5)).labels, plain.labels[:5])
    assert np.allclose(sharded.frequencies(), (plain.labels > 0).mean(0))


def test_two_columns_for_one_attribute_are_refused(data):
    with pytest.raises(DatasetError, match="has 'Smiling' and 'Eyeglasses', which are the same attribute"):
        dataset.read_index(data, ["Smiling"], "train", aliases={"Smiling": ["Eyeglasses"]})


def test_own_groups_exclude_each_other_in_training_and_evaluation(preset, data, tmp_path):
    settings = config.load(str(preset)).data
    names, groups = settings.attributes, attributes.groups(settings.attributes, settings.about)
    expected = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    assert torch.equal(attributes.exclusion_matrix(names, groups), expected)
    assert not attributes.exclusion_matrix(names).any()
    shown, labels = np.full((1, 3), -0.5, dtype=np.float32), np.array([[1, -1, -1]])
    assert inverted(shown, labels, 1, names, groups).tolist() == [[-1, 1, -0.5]]
    assert tally.excused(names, groups)[tally.ADDED, 0, 1]
    table = {"Smiling": {"group": "mouth"}, "Eyeglasses": {"group": "mouth"}}
    trainer = make_trainer(data, tmp_path, tmp_path, f"data.about={_inline(table)}")
    first, second = (trainer.config.data.attributes.index(name) for name in table)
    assert trainer.exclusion[first, second]


def _inline(table):
    return (
        "{" + ", ".join(f"{k} = {_inline(v) if isinstance(v, dict) else json.dumps(v)}" for k, v in table.items()) + "}"
    )


@pytest.mark.parametrize("name", ["Ethnicity_Asian", "skin-dark", "WearsHijab", "is_male", "Old", "gender", "Elderly"])
def test_names_that_touch_on_protected_traits_are_doubted_unless_marked(name):
    assert attributes.seem_protected([name, "Hat"], {}) == [name]
    for marked in (True, False):
        assert attributes.seem_protected([name], {name: config.AttributeConfig(sensitive=marked)}) == []


@pytest.mark.parametrize(
    "name", ["Hat", "Bandage", "Manicure", "Image_Border", "Golden_Earrings", "Mask", "Smiling", "Male"]
)
def test_others_are_not(name):
    assert attributes.seem_protected([name], {}) == []  # CelebA's own are marked


def test_the_doubt_is_a_warning_of_fit(preset, data, tmp_path):
    text = PRESET.replace("sensitive = true\n", "").replace("Pale]", "skin_tone]")
    preset.write_text(text)
    doubts = preflight.check(config.load(str(preset)), str(preset), data, tmp_path / "c", tmp_path / "run", tmp_path)
    assert any(doubt.startswith("skin_tone: seems to touch on a protected trait") for doubt in doubts)


def test_pictures_of_another_size_name_the_three_settings(tmp_path, capsys, preset):
    data = painter.write_dataset(tmp_path / "data", train=8, validation=4)
    for path in (data / "img_align_celeba").iterdir():
        painter.paint(painter.random_attributes(np.random.default_rng(0)), np.random.default_rng(0)).resize(
            (256, 256)
        ).save(path)
    words = ["--data", str(data), "--cache", str(tmp_path / "cache"), "--workdir", str(tmp_path / "run")]
    assert main(["fit", "--preset", str(preset), *words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "000001.jpg: is (256, 256), expected (178, 218); data.aligned_size, data.crop_box and data.landmarks" in line
    assert not (tmp_path / "cache").exists()
