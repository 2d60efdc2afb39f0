import pytest
import torch

from training.config import FlowModelConfig
from training.flow.model import FlowPrior, logit_normal, training_pair

SIZE, COUNT = 6, 3
CONFIG = FlowModelConfig(width=32, blocks=2, condition_size=16, steps=8)


def make(**changes):
    torch.manual_seed(0)
    prior = FlowPrior(CONFIG.model_copy(update=changes), SIZE, COUNT)
    torch.nn.init.normal_(prior.leave.weight, std=0.1)
    for block in prior.blocks:
        torch.nn.init.normal_(block.project.weight, std=0.1)
    return prior


def test_the_way_from_noise_to_a_latent_is_straight():
    noise, latent = torch.randn(2, 4, SIZE)
    start, velocity = training_pair(latent, noise, torch.zeros(4))
    end, same = training_pair(latent, noise, torch.ones(4))
    torch.testing.assert_close(start, noise)
    torch.testing.assert_close(end, latent)
    torch.testing.assert_close(start + velocity, latent)
    assert torch.equal(velocity, same)


def test_times_lie_within_the_way_and_mostly_in_its_middle():
    times = logit_normal(torch.randn(10_000, generator=torch.Generator().manual_seed(0)))
    assert 0 < times.min() < 0.1
    assert 0.9 < times.max() < 1
    assert ((times > 0.25) & (times < 0.75)).float().mean() > 0.7


def test_everything_that_is_trained_receives_a_gradient():
    prior = make()
    prior.velocity(torch.randn(4, SIZE), torch.rand(4), torch.randn(4, COUNT)).square().sum().backward()
    silent = [name for name, value in prior.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert silent == []


def test_an_untrained_prior_draws_a_gaussian_of_the_latents_mean_and_scale():
    prior = FlowPrior(CONFIG, SIZE, COUNT)
    prior.mean.fill_(3.0)
    prior.scale.fill_(2.0)
    noise = torch.randn(5, SIZE)
    torch.testing.assert_close(prior(noise, torch.zeros(5, COUNT)), 2 * noise + 3)
    torch.testing.assert_close(prior.standardised(2 * noise + 3), noise)


def test_a_sample_depends_on_its_own_noise_and_attributes_alone():
    prior = make()
    noise, attributes = torch.randn(5, SIZE), torch.randn(5, COUNT)
    together = prior(noise, attributes)
    for row in range(5):
        torch.testing.assert_close(prior(noise[row : row + 1], attributes[row : row + 1])[0], together[row])
    assert not torch.allclose(prior(noise, -attributes), together)


def test_the_midpoint_method_has_converged():
    coarse, fine = make(steps=8), make(steps=64)
    noise, attributes = torch.randn(8, SIZE), torch.randn(8, COUNT)
    difference = (coarse(noise, attributes) - fine(noise, attributes)).abs().max()
    moved = (fine(noise, attributes) - noise).abs().max()
    assert difference < 0.05 * moved


@pytest.mark.parametrize("shift", [-2.0, 2.0])
def test_it_learns_where_latents_lie_given_an_attribute(shift):
    """One dimension, whose mean an attribute moves: after some steps samples lie there."""
    torch.manual_seed(0)
    prior = FlowPrior(CONFIG, 1, 1)
    optimiser = torch.optim.Adam(prior.parameters(), lr=1e-2)
    for _ in range(300):
        attributes = torch.randint(2, (128, 1)) * 2.0 - 1
        latent = 2 * attributes + 0.1 * torch.randn(128, 1)
        time = torch.rand(128)
        x, velocity = training_pair(latent, torch.randn(128, 1), time)
        optimiser.zero_grad()
        (prior.velocity(x, time, attributes) - velocity).square().mean().backward()
        optimiser.step()
    drawn = prior(torch.randn(64, 1), torch.full((64, 1), shift / 2))
    assert drawn.mean().item() == pytest.approx(shift, abs=0.3)
