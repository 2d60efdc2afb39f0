"""Stages of a bundle as checkpoints: exported again, they give the graphs that they came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from service.bundle import loader
from service.bundle.loader import Bundle
from tests.export.test_editor import editor_checkpoint
from tests.export.test_prior import decoder_checkpoint, export, prior_checkpoint, vae_checkpoint
from training import checkpoint
from training.__main__ import main
from training.restore import ENTRIES
from training.vae.model import ConditionalVAE

STAGES = {"editor": "--editor", "prior": "--prior", "generator": "--decoder"}  # and the options of an export


def perturb(path: Path) -> None:
    """Weights as training leaves them: an export keeps one of several that are equal, as untrained biases are."""
    state, generator = checkpoint.load(path), torch.Generator().manual_seed(7)
    for value in state["ema"].values():
        if value.is_floating_point():
            value.add_(0.01 * torch.rand(value.shape, generator=generator))
    checkpoint.save(path, state)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    settings = vae_checkpoint(checkpoints / "vae.pt")
    editor_checkpoint(checkpoints / "editor.pt")
    prior_checkpoint(
        checkpoints / "prior.pt", ConditionalVAE(settings.model, 32, len(settings.data.attributes)).latent_size
    )
    decoder_checkpoint(checkpoints / "generator.pt", checkpoints / "vae.pt")
    for path in sorted(checkpoints.glob("*.pt")):
        perturb(path)
    options = [word for stage, option in STAGES.items() for word in (option, checkpoints / f"{stage}.pt")]
    assert export(checkpoints, checkpoints / "bundles" / "small", *options) == 0
    return loader.load(checkpoints / "bundles" / "small")


def restore(bundle: Bundle, stage: str, out: Path) -> int:
    return main(["restore", "--bundle", str(bundle.directory), "--stage", stage, "--out", str(out / f"{stage}.pt")])


def test_a_bundle_of_restored_checkpoints_has_the_same_graphs(bundle: Bundle, tmp_path: Path):
    for stage in ENTRIES:
        assert restore(bundle, stage, tmp_path / "restored") == 0
    options = [word for stage, option in STAGES.items() for word in (option, tmp_path / "restored" / f"{stage}.pt")]
    assert export(tmp_path / "restored", tmp_path / "small", *options) == 0
    again = loader.load(tmp_path / "small")
    for name, entry in bundle.manifest.files.items():
        if name.endswith((".onnx", ".npz", ".png")):
            assert again.manifest.files[name].sha256 == entry.sha256, name
    for name in ENTRIES.values():
        # All but the commit, which is that of the export.
        first, second = (getattr(each.manifest, name).model_dump(exclude={"source_commit"}) for each in (bundle, again))
        assert first == second, name
    assert again.manifest.attributes == bundle.manifest.attributes
    assert again.manifest.prior == bundle.manifest.prior


def test_a_stage_that_a_bundle_lacks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture):
    shipped = loader.load(Path(__file__).parents[2] / "bundles" / "celeba64")
    assert restore(shipped, "editor", tmp_path) == 2
    assert "was made without the stage 'editor'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
