"""Weights between those of two checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.training.editor.networks import NAMES, config
from training import checkpoint
from training.__main__ import main
from training.editor.model import Editor

FACTS = {"step": 3, "epochs": 1.5, "data_sha256": "0" * 64, "command": "fit"}


def written(path: Path, seed: int, **sections: dict) -> Editor:
    settings = config(**sections)
    torch.manual_seed(seed)
    editor = Editor(settings.model, 32, len(NAMES))
    state = {"config": settings.model_dump(mode="json"), "ema": editor.state_dict()}
    checkpoint.save(path, FACTS | {"command": f"fit {seed}"} | state)
    return editor


def interpolated(directory: Path, share: str) -> int:
    paths = [str(directory / name) for name in ("first.pt", "second.pt")]
    return main(["interpolate", *paths, "--share", share, "--out", str(directory / "out" / "mixed.pt")])


def test_a_share_of_the_way_from_the_first_to_the_second(tmp_path: Path):
    first, second = written(tmp_path / "first.pt", 1), written(tmp_path / "second.pt", 2)
    assert interpolated(tmp_path, "0.25") == 0
    found, _, state = checkpoint.load_editor(tmp_path / "out" / "mixed.pt")
    for (name, value), one, other in zip(
        found.state_dict().items(), first.state_dict().values(), second.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(value, 0.75 * one + 0.25 * other, msg=name)
    assert state["command"] == "fit 2; python -m training interpolate --share 0.25"


def test_the_ends_are_the_checkpoints_themselves(tmp_path: Path):
    editors = written(tmp_path / "first.pt", 1), written(tmp_path / "second.pt", 2)
    for share, editor in zip(("0", "1"), editors, strict=True):
        assert interpolated(tmp_path, share) == 0
        found, _, _ = checkpoint.load_editor(tmp_path / "out" / "mixed.pt")
        for name, value in editor.state_dict().items():
            torch.testing.assert_close(found.state_dict()[name], value)


def test_networks_of_another_structure_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    written(tmp_path / "first.pt", 1)
    written(tmp_path / "second.pt", 2, model={"channels": [8, 8, 16]})
    assert interpolated(tmp_path, "0.5") == 2
    assert "has the shape" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_share_beyond_the_way_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as exit_:
        interpolated(tmp_path, "1.5")
    assert exit_.value.code == 2
    assert "1.5: must be from 0 to 1" in capsys.readouterr().err
