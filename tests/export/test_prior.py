"""A bundle with a learned prior, and with a decoder that was trained further: exported, verified, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export import half
from export.__main__ import main
from export.parity import OnnxGraph
from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import LEARNED_PRIOR
from service.inference import golden
from tests.export.test_editor import DATA, NAMES, RUN, vae_checkpoint
from training import checkpoint, config
from training.flow.model import FlowPrior
from training.graphs import BundleGraphs
from training.vae.model import ConditionalVAE


def prior_checkpoint(path: Path, latent_size: int) -> FlowPrior:
    model = {"width": 16, "blocks": 1, "condition_size": 8, "steps": 2}
    settings = config.parse({"stage": "prior", "name": "small-prior", "data": DATA, "model": model})
    torch.manual_seed(2)
    prior = FlowPrior(settings.model, latent_size, len(NAMES)).eval()
    torch.nn.init.normal_(prior.leave.weight, std=0.1)
    checkpoint.save(path, RUN | {"config": settings.model_dump(mode="json"), "ema": prior.state_dict()})
    return prior


def decoder_checkpoint(path: Path, vae: Path, **data) -> None:
    """The weights of a VAE, as if its decoder had learned to draw darker faces."""
    state = checkpoint.load(vae)["ema"]
    state["decoder.output.colours.bias"] = state["decoder.output.colours.bias"] - 0.5
    settings = config.parse(
        {"stage": "generator", "name": "small-generator", "data": DATA | data, "opponent": {"crop": 32}}
    )
    checkpoint.save(path, RUN | {"config": settings.model_dump(mode="json"), "ema": state})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoints")
    settings = vae_checkpoint(directory / "vae.pt")
    prior_checkpoint(directory / "prior.pt", ConditionalVAE(settings.model, 32, len(NAMES)).latent_size)
    decoder_checkpoint(directory / "decoder.pt", directory / "vae.pt")
    return directory


def export(checkpoints: Path, out: Path, *options: str | Path) -> int:
    words = ["--checkpoint", checkpoints / "vae.pt", *options, "--out", out, "--version", "1"]
    return main(["bundle", *map(str, words), "--weights-licence", "CC0-1.0"])


@pytest.fixture(scope="module")
def bundle(checkpoints: Path) -> Bundle:
    out = checkpoints / "bundles" / "small"
    assert export(checkpoints, out, "--prior", checkpoints / "prior.pt", "--decoder", checkpoints / "decoder.pt") == 0
    return loader.load(out)


def test_the_graph_draws_the_latents_that_the_network_draws(bundle: Bundle, checkpoints: Path):
    size = bundle.manifest.latent_size
    prior, _, _ = checkpoint.load_prior(checkpoints / "prior.pt", size)
    noise, attributes = torch.randn(5, size), torch.rand(5, len(NAMES)) * 2 - 1
    graph = OnnxGraph(bundle.path(LEARNED_PRIOR))
    (found,) = graph.run({"noise": noise.numpy(), "attributes": attributes.numpy()}).values()
    with torch.no_grad():
        np.testing.assert_allclose(found, prior(noise, attributes).numpy(), atol=2e-2)  # its weights are stored as fp16
    assert set(bundle.manifest.parity[LEARNED_PRIOR].max_error) == {"latent"}


def test_the_manifest_says_where_each_weight_comes_from(bundle: Bundle):
    manifest = bundle.manifest
    assert manifest.prior_training.config["stage"] == "prior"
    assert manifest.decoder_training.config["stage"] == "generator"
    assert manifest.training.config["stage"] == "vae"
    assert manifest.graphs == ("encoder.onnx", "decoder.onnx", "prior.onnx")


def test_samples_are_drawn_through_the_prior(bundle: Bundle):
    graphs = BundleGraphs(bundle)
    drawn = golden.inputs(bundle, graphs.learned, temperature=0)
    size = bundle.manifest.latent_size
    expected = graphs.learned(np.zeros((len(drawn["latent"]), size), np.float32), drawn["attributes"].clip(-1, 1))
    np.testing.assert_array_equal(drawn["latent"], expected)
    golden.check(bundle, graphs.decode, graphs.learned)


def test_half_precision_leaves_the_prior_as_it_is(bundle: Bundle, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(half, "FACES", 8)
    halved = half.write_half(bundle.directory, tmp_path / bundle.manifest.name)
    assert halved.path(LEARNED_PRIOR).read_bytes() == bundle.path(LEARNED_PRIOR).read_bytes()
    assert halved.manifest.parity[LEARNED_PRIOR].max_error == {"latent": 0}


def test_the_decoder_is_the_one_that_was_trained_further(bundle: Bundle, checkpoints: Path):
    plain = checkpoints / "plain" / "small"
    assert export(checkpoints, plain) == 0
    latent = np.zeros((2, bundle.manifest.latent_size), dtype=np.float32)
    attributes = np.zeros((2, len(NAMES)), dtype=np.float32)
    before, after = (BundleGraphs(each).decode(latent, attributes) for each in (loader.load(plain), bundle))
    assert before.mean() - after.mean() > 30


@pytest.mark.parametrize(
    ("option", "name", "words"),
    [
        ("--prior", "vae.pt", ["vae.pt", "stage 'vae'", "expected 'prior'"]),
        ("--decoder", "prior.pt", ["prior.pt", "stage 'prior'", "expected 'generator'"]),
        ("--prior", "empty.pt", ["empty.pt", "'ema'"]),
        ("--decoder", "other.pt", ["other.pt", "decoder.stem.weight is missing"]),
        ("--decoder", "crop.pt", ["crop.pt", "data.crop_box"]),
    ],
)
def test_what_does_not_go_with_the_model_is_one_line(checkpoints: Path, tmp_path, capsys, option, name, words):
    for source, target, part in (("prior.pt", "empty.pt", None), ("decoder.pt", "other.pt", "decoder.stem.weight")):
        state = checkpoint.load(checkpoints / source)
        (state if part is None else state["ema"]).pop(part or "ema")
        checkpoint.save(checkpoints / target, state)
    decoder_checkpoint(checkpoints / "crop.pt", checkpoints / "vae.pt", crop_box=[0, 0, 178, 178])
    assert export(checkpoints, tmp_path / "small", option, checkpoints / name) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ")
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []
