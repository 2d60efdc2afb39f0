import numpy as np
import torch

from training.config import ModelConfig
from training.graphs import TorchGraphs
from training.vae.calibration import allocate, erase
from training.vae.model import ConditionalVAE


def test_the_budget_goes_where_it_buys_most():
    accuracy = np.array([[0.2, 0.2], [0.8, 0.3]])
    side_effects = np.array([[0.0, 0.0], [0.02, 0.1]])
    assert allocate(accuracy, side_effects, budget=0.5).tolist() == [1, 1]
    assert allocate(accuracy, side_effects, budget=0.02).tolist() == [1, 0]
    assert allocate(accuracy, side_effects, budget=0.001).tolist() == [0, 0]


def test_a_budget_that_cannot_be_met_takes_the_least_side_effects():
    side_effects = np.array([[0.2, 0.3], [0.3, 0.2]])
    assert allocate(np.zeros((2, 2)), side_effects, budget=0.01).tolist() == [0, 1]


def test_erasure_leaves_latents_uncorrelated_with_estimates_and_reconstructions_alone():
    torch.manual_seed(0)
    config = ModelConfig(
        global_size=6, map_channels=1, encoder_channels=[8, 16], decoder_channels=[16, 8], condition_size=8
    )
    model = ConditionalVAE(config, image_size=16, attribute_count=3)
    with torch.no_grad():  # an untrained head has hardly an opinion
        model.encoder.attribute_head[-1].weight.mul_(100)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), dtype=np.uint8)
    unknown = np.full((300, 3), np.nan, dtype=np.float32)
    graphs = TorchGraphs(model)

    def correlation():
        latent, shown = graphs.encode(pixels, unknown)
        return np.abs(np.corrcoef(shown, latent, rowvar=False)[:3, 3:]).max()

    correlated, decoded = correlation(), graphs.decode(*graphs.encode(pixels, unknown))
    erase(model, pixels, ridge=0.0)
    assert correlated > 0.1
    assert correlation() < 1e-3
    assert np.abs(graphs.decode(*graphs.encode(pixels, unknown)).astype(int) - decoded).max() <= 1
