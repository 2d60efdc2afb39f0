import numpy as np
import pytest
import torch

from training.vae.erasure import regress


def data(count=4000):
    """Estimates of a common attribute, of a rare one that hardly vary, and of one that never does; latents of both."""
    rng = np.random.default_rng(0)
    common, rare = np.tanh(2 * rng.standard_normal(count)), -0.97 + 0.02 * rng.standard_normal(count)
    attributes = np.stack([common, rare, np.full(count, -1.0)], axis=1)
    latent = np.stack([3 * common + 1, 50 * (rare + 0.97)], axis=1) + 0.1 * rng.standard_normal((count, 2))
    return torch.from_numpy(latent).float(), torch.from_numpy(attributes).float()


def test_without_a_ridge_nothing_linear_is_left():
    latent, attributes = data()
    weight, bias = regress(latent, attributes, ridge=0.0)
    left = latent - attributes @ weight.T - bias
    assert left.mean(0).abs().max() < 1e-4
    assert (left.T @ (attributes - attributes.mean(0))).abs().max() / len(left) < 1e-4
    assert weight[0, 0] == pytest.approx(3, abs=0.02)
    assert weight[1, 1] == pytest.approx(50, abs=0.5)


def test_a_ridge_shortens_the_step_of_an_attribute_whose_estimates_hardly_vary():
    latent, attributes = data()
    weight, bias = regress(latent, attributes, ridge=0.03)
    assert weight[0, 0] == pytest.approx(3, rel=0.06)
    assert 0 < weight[1, 1] < 2
    assert (latent - attributes @ weight.T - bias).mean(0).abs().max() < 1e-4
    assert weight[:, 2].abs().max() == pytest.approx(0, abs=1e-6)
