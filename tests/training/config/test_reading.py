from pathlib import Path

import pytest

from service.bundle import loader
from training import config
from training.config import ConfigError

BUNDLES = Path(__file__).parents[3] / "bundles"


def test_every_shipped_preset_loads():
    names = sorted(path.stem for path in config.PRESETS.glob("*.toml"))
    assert {"celeba10k", "celeba10k-beta4", "celeba64"} <= set(names)
    for name in names:
        assert config.load(name).name == name


def test_the_published_pair_differs_in_beta_alone():
    balanced, disentangled = config.load("celeba10k").model_dump(), config.load("celeba10k-beta4").model_dump()
    assert (balanced["loss"].pop("beta"), disentangled["loss"].pop("beta")) == (1.0, 4.0)
    assert (balanced.pop("name"), disentangled.pop("name")) == ("celeba10k", "celeba10k-beta4")
    assert balanced == disentangled
    assert balanced["data"]["limit"] == 10_000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "unknown key 'train.epoch'; did you mean 'epochs'?"),
        ("modle.global_size=3", "unknown key 'modle'; did you mean 'model'?"),
        ("train.epochs=0", "train.epochs = 0: Input should be greater than or equal to 1"),
        ("train.precision=fp8", "train.precision = 'fp8'"),
        ("loss.beta", "must be section.key=value"),
        (
            "data.crop_box=[0, 0, 3, 4]",
            "data.crop_box = [0, 0, 3, 4]: must be a square with a positive side",
        ),
        ("name.x=3", "'name' is a value, not a section"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(override, message):
    with pytest.raises(config.ConfigError) as refusal:
        config.load("celeba64", [override])
    assert message in str(refusal.value)


@pytest.mark.parametrize("preset", ["celeba64", "celeba128-editor"])
@pytest.mark.parametrize(
    ("override", "shown"),
    [
        ("data.crop_box=[1000, 1000, 1300, 1300]", r"data\.crop_box = \[1000\.0, .*data\.aligned_size is 178 x 218$"),
        ("data.crop_box=[-1, 20, 177, 198]", r"data\.crop_box = \[-1\.0, 20\.0, 177\.0, 198\.0\]: must lie in"),
        ("data.crop_box=[0, -0.5, 100, 99.5]", r"data\.crop_box = \[0\.0, -0\.5, 100\.0, 99\.5\]: must lie in"),
        ("data.crop_box=[100, 100, 178.5, 178.5]", r"data\.crop_box = .*: must lie in the aligned picture"),
        ("data.crop_box=[0, 118, 101, 219]", r"data\.crop_box = .*: must lie in the aligned picture"),
        ("data.aligned_size=[100, 218]", r"data\.crop_box = .*data\.aligned_size is 100 x 218$"),
    ],
)
def test_a_crop_outside_the_picture_is_refused(preset, override, shown):
    with pytest.raises(config.ConfigError, match=shown):
        config.load(preset, [override])


def test_a_crop_of_the_whole_width_is_none_outside():
    assert config.load("celeba64", ["data.crop_box=[0, 40, 178, 218]"]).data.crop_box == (0, 40, 178, 218)


def test_an_encoder_deeper_than_its_decoder_is_refused():
    with pytest.raises(config.ConfigError, match=r"encoder_channels has 2 stages and model\.decoder_channels 4; "):
        config.load("celeba64", ["model.encoder_channels=[8, 8]"])


def test_stages_that_do_not_fit_the_picture_are_refused():
    with pytest.raises(config.ConfigError, match=r"opponent\.channels has 7 stages; data\.image_size = 64"):
        config.load("celeba64", ["opponent.channels=[8,8,8,8,8,8,8]"])


def test_overrides_are_toml_values():
    loaded = config.load("celeba64", ["train.epochs=3", "loss.beta=2.5", "data.attributes=['Smiling']", "name=mine"])
    assert (loaded.train.epochs, loaded.loss.beta, loaded.data.attributes, loaded.name) == (3, 2.5, ["Smiling"], "mine")


def test_a_preset_that_does_not_exist_names_those_that_do(tmp_path):
    with pytest.raises(config.ConfigError, match=r"known presets: .*celeba64"):
        config.load("celeba63")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(config.ConfigError, match=r"bad\.toml: not TOML"):
        config.load(str(tmp_path / "bad.toml"))


@pytest.mark.parametrize("bundle", sorted(path.name for path in BUNDLES.iterdir()))
def test_the_configurations_of_shipped_bundles_can_be_read(bundle):
    manifest = loader.load(BUNDLES / bundle).manifest
    settings = config.recorded(manifest.training.config)
    losses = manifest.training.config["loss"]
    assert settings.loss.confidence_margin == losses.get("plainness_margin", losses.get("confidence_margin"))
    assert settings.data.attributes == manifest.attribute_names
    if manifest.editor_training is not None:
        assert config.recorded(manifest.editor_training.config).data.attributes == manifest.attribute_names


def test_a_former_key_is_known_in_what_older_code_recorded_alone():
    values = {"name": "mine", "loss": {"plainness_margin": 1.5}}
    assert config.recorded(values).loss.confidence_margin == 1.5
    assert values["loss"] == {"plainness_margin": 1.5}
    with pytest.raises(ConfigError, match=r"unknown key 'loss\.plainness_margin'"):
        config.parse(values)


def test_a_preset_says_what_differs_from_its_base(tmp_path):
    (tmp_path / "first.toml").write_text(
        'base = "celeba128"\nname = "first"\n[attributes.Hat]\n[attributes.Smiling]\n[train]\nepochs = 2\n'
    )
    (tmp_path / "second.toml").write_text('base = "first.toml"\nname = "second"\n[attributes.Smiling]\n')
    shipped, second = config.load("celeba128"), config.load(str(tmp_path / "second.toml"))
    assert second.name == "second"
    assert second.model == shipped.model
    assert second.data.crop_box == shipped.data.crop_box
    assert second.data.attributes == ["Smiling"]
    assert second.train == shipped.train.model_copy(update={"epochs": 2})


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ('"celeba63"', "preset 'celeba63': no file"),
        ('"missing.toml"', "no file .*missing.toml"),
        ('"own.toml"', "is based on this preset itself"),
        ("3", "base = 3: must be a preset's name"),
    ],
)
def test_a_base_that_cannot_be_used_is_refused(tmp_path, base, message):
    (tmp_path / "own.toml").write_text(f'base = {base}\nname = "own"\n')
    with pytest.raises(config.ConfigError, match=message):
        config.load(str(tmp_path / "own.toml"))


def test_the_name_of_the_base_is_not_that_of_a_preset(tmp_path):
    (tmp_path / "own.toml").write_text('base = "celeba128"\n')
    with pytest.raises(config.ConfigError, match="name: is missing"):
        config.load(str(tmp_path / "own.toml"))


def test_an_attribute_that_can_be_edited_is_not_kept_by_default():
    values = {"stage": "editor", "name": "hats"}
    hats = config.parse(values | {"data": {"attributes": ["Wearing_Hat", "Smiling"]}})
    assert "Wearing_Hat" not in hats.data.kept
    assert "Wearing_Hat" in config.parse(values).data.kept
    with pytest.raises(config.ConfigError, match=r"'Wearing_Hat' is one of data\.attributes"):
        config.parse(values | {"data": {"attributes": ["Wearing_Hat"], "kept": ["Wearing_Hat"]}})
