import numpy as np
import torch

from training.calibration import TorchGraphs, allocate, refit_prior
from training.config import ModelConfig
from training.model import ConditionalVAE


def test_the_budget_goes_where_it_buys_most():
    accuracy = np.array([[0.2, 0.2], [0.8, 0.3]])
    side_effects = np.array([[0.0, 0.0], [0.02, 0.1]])
    assert allocate(accuracy, side_effects, budget=0.5).tolist() == [1, 1]
    assert allocate(accuracy, side_effects, budget=0.02).tolist() == [1, 0]
    assert allocate(accuracy, side_effects, budget=0.001).tolist() == [0, 0]


def test_a_budget_that_cannot_be_met_takes_the_least_side_effects():
    side_effects = np.array([[0.2, 0.3], [0.3, 0.2]])
    assert allocate(np.zeros((2, 2)), side_effects, budget=0.01).tolist() == [0, 1]


def test_after_a_refit_latents_and_estimates_are_uncorrelated():
    torch.manual_seed(0)
    config = ModelConfig(latent_size=6, encoder_channels=[8, 16], decoder_channels=[16, 8], condition_size=8)
    model = ConditionalVAE(config, image_size=16, attribute_count=3)
    with torch.no_grad():  # an untrained head has hardly an opinion
        model.encoder.attribute_head[-1].weight.mul_(100)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 16, 16, 3), dtype=np.uint8)
    unknown = np.full((300, 3), np.nan, dtype=np.float32)

    def correlation():
        latent, shown = TorchGraphs(model).encode(pixels, unknown)
        return np.abs(np.corrcoef(shown, latent, rowvar=False)[:3, 3:]).max()

    before = correlation()
    refit_prior(model, pixels)
    assert correlation() < 0.1 * before
