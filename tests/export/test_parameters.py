"""Every parameter of a network is in its graph under its own name, and comes back from there."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export import graphs
from tests.training.flow.test_model import make as make_prior
from tests.training.vae.test_model import CONFIG, NAMES
from training import warm_start
from training.config import EditorModelConfig
from training.editor.model import Editor
from training.vae.model import ConditionalVAE, latent_size

BUNDLES = Path(__file__).parents[2] / "bundles"
Z, K = latent_size(CONFIG.model, 32), len(NAMES)
IMAGE = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)


def trained(network: torch.nn.Module) -> torch.nn.Module:
    """With other values in every parameter and buffer, as fp16 can hold them."""
    torch.manual_seed(3)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.add_(0.1 * torch.randn_like(value))
    return graphs.round_weights(network.eval())


@pytest.fixture(scope="module")
def vae():
    return trained(ConditionalVAE(CONFIG.model, 32, K))


def exported(module, inputs, outputs, path):
    graphs.export_graph(module, inputs, outputs, path)
    return onnx.load(path)


def test_encoder_and_decoder_give_all_of_the_vae_back(vae, tmp_path):
    inputs = {"image": IMAGE, "attributes": torch.zeros(2, K)}
    outputs = ["mean", "log_variance", "attribute_estimates"]
    encoder = exported(graphs.EncoderGraph(vae), inputs, outputs, tmp_path / "encoder.onnx")
    inputs = {"latent": torch.zeros(2, Z), "attributes": torch.zeros(2, K)}
    decoder = exported(graphs.DecoderGraph(vae), inputs, ["image"], tmp_path / "decoder.onnx")
    found = {}
    for graph in (encoder, decoder):
        named = {tensor.name.removesuffix("_fp16") for tensor in graph.graph.initializer}
        assert not [name for name in named if name.startswith("val_") and _is_norm(graph, name)]
        found |= warm_start.parameters(graph, "model.", vae)
    same(found, vae)


def _is_norm(graph, name):
    """Whether an anonymous initialiser is other than the ones and zeros of a norm without parameters."""
    (value,) = (
        onnx.numpy_helper.to_array(tensor)
        for tensor in graph.graph.initializer
        if tensor.name.removesuffix("_fp16") == name
    )
    return value.ndim == 3 and value.shape[1:] == (1, 1) and not (np.all(value == 0) or np.all(value == 1))


def test_an_editor_comes_back(tmp_path):
    editor = trained(Editor(EditorModelConfig(channels=(8, 8, 16), detail_channels=8, condition_size=8), 32, K))
    inputs, outputs = {"image": IMAGE, "change": torch.zeros(2, K)}, ["mask", "gain", "residual", "flow"]
    same(
        warm_start.parameters(exported(graphs.EditorGraph(editor), inputs, outputs, tmp_path / "e"), "editor.", editor),
        editor,
    )


def test_a_learned_prior_comes_back(tmp_path):
    prior = trained(make_prior(steps=2))
    inputs = {"noise": torch.zeros(2, 6), "attributes": torch.zeros(2, 3)}
    graph = exported(graphs.PriorGraph(prior), inputs, ["latent"], tmp_path / "prior.onnx")
    found = warm_start.parameters(graph, "prior.", prior)
    same(found, prior, besides={"frequencies"})  # a constant, of which the graph has the sines


def same(found, network, besides=frozenset()):
    expected = network.state_dict()
    assert set(expected) - set(found) <= set(besides)
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("name", sorted(os.listdir(BUNDLES)))
def test_a_shipped_bundle_gives_back_a_network_that_computes_what_its_graph_does(name):
    directory = BUNDLES / name
    settings = warm_start.config_of_bundle(directory, "vae")
    size, count = settings.data.image_size, len(settings.data.attributes)
    network = ConditionalVAE(settings.model, size, count).eval()
    given = warm_start.read(directory, "vae", network)
    assert given.attributes == settings.data.attributes
    network.load_state_dict(given.parts["model"])
    image = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    unknown = np.full((2, count), np.nan, dtype=np.float32)
    with torch.no_grad():
        mean, log_variance, estimates = graphs.EncoderGraph(network)(torch.from_numpy(image), torch.from_numpy(unknown))
        drawn = graphs.DecoderGraph(network)(mean, estimates)
    encoder, decoder = (
        onnxruntime.InferenceSession(str(directory / f"{graph}.onnx"), providers=["CPUExecutionProvider"])
        for graph in ("encoder", "decoder")
    )
    found = encoder.run(None, {"image": image, "attributes": unknown})
    for ours, theirs in zip((mean, log_variance, estimates), found, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=2e-3)
    theirs = decoder.run(None, {"latent": mean.numpy(), "attributes": estimates.numpy()})[0]
    assert np.abs(drawn.numpy().astype(int) - theirs).max() <= 1
