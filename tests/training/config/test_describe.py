"""Every value has a line that says what it means, and what is shown is a preset again."""

import pytest
from pydantic import BaseModel

from training import config
from training.__main__ import main


def sections(schema):
    """All sections of a stage's configuration, itself among them."""
    found = [schema]
    for field in schema.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += sections(field.annotation)
    return found


@pytest.mark.parametrize("stage", sorted(config.STAGES))
def test_every_value_is_described_in_one_line(stage):
    for section in sections(config.STAGES[stage]):
        for name, field in section.model_fields.items():
            if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
                assert field.description, f"{section.__name__}.{name}"
                assert len(field.description) < 100, f"{section.__name__}.{name}"
                assert "\n" not in field.description


@pytest.mark.parametrize("preset", sorted(path.stem for path in config.PRESETS.glob("*.toml")))
def test_show_prints_a_preset_that_means_the_same(preset, tmp_path, capsys):
    overrides = ["--set", "train.seed=5"]
    assert main(["show", preset, *overrides]) == 0
    shown = capsys.readouterr().out
    (tmp_path / "shown.toml").write_text(shown)
    assert config.load(str(tmp_path / "shown.toml")) == config.load(preset, overrides[1:])
    lines = shown.splitlines()
    (seed,) = (line for line in lines if line.startswith("seed = "))
    assert seed.split("#")[0].strip() == "seed = 5"
    assert seed.endswith("# of all randomness (default 1)")
    assert any(line.startswith("# micro_batch is not set") for line in lines)


def test_showing_a_preset_that_is_not_there_is_one_line(capsys):
    assert main(["show", "nope"]) == 2
    assert capsys.readouterr().err.startswith("error: preset 'nope': no file")
