import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from training import losses


def test_kl_agrees_with_torch_distributions():
    mean, log_variance = torch.randn(5, 7), torch.randn(5, 7)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(losses.kl_divergence(mean, log_variance), expected)


def test_calibrated_likelihood_has_the_gradient_of_half_the_log_error():
    error = torch.tensor(0.03, requires_grad=True)
    losses.calibrated_nll(error, error.detach()).backward()
    assert error.grad.item() == pytest.approx(0.5 / 0.03)
    # The variance that equals the error is the most likely one.
    at = [losses.calibrated_nll(error, torch.tensor(v)).item() for v in (0.02, 0.03, 0.04)]
    assert min(at) == at[1]


def test_attribute_loss_averages_a_picture_by_its_weights():
    logits, targets = torch.tensor([[0.0, 5.0]]), torch.tensor([[1.0, -1.0]])
    weight = torch.tensor([[1.0, 0.0]])
    assert losses.attribute_loss(logits, targets, weight).item() == pytest.approx(math.log(2))
    assert losses.attribute_loss(logits, targets, torch.zeros(1, 2)).item() == 0


def test_rare_values_are_flipped_nearly_as_often_as_common_ones():
    frequencies = torch.cat([torch.tensor([0.05]), torch.full((15,), 0.3)])
    generator = torch.Generator().manual_seed(0)
    labels = torch.where(torch.rand(100_000, 16, generator=generator) < frequencies, 1.0, -1.0)
    odds = losses.flip_probabilities(frequencies, labels)
    torch.testing.assert_close(odds.sum(1), torch.ones(len(labels)))
    removed, added = odds[labels[:, 0] > 0, 0].sum(), odds[labels[:, 0] < 0, 0].sum()
    assert 0.4 < removed / added < 2.5  # 0.05 if attributes were drawn evenly


def test_the_hinge_is_zero_only_beyond_the_margin():
    far, near = torch.full((4, 2), 1.5), torch.full((4, 2), 0.5)
    assert losses.hinge_discriminator(far, -far).item() == 0
    assert losses.hinge_discriminator(near, -near).item() == pytest.approx(1.0)


def test_patches_that_give_an_edit_away_weigh_most():
    logits = torch.tensor([-4.0, 0.0, 4.0], requires_grad=True)
    losses.non_saturating(logits).backward()
    worst, even, best = (-3 * logits.grad).tolist()
    assert worst == pytest.approx(0.98, abs=0.01)
    assert even == pytest.approx(0.5)
    assert best < 0.02


def test_psnr_of_one_level_in_255():
    assert losses.psnr((2 / 255) ** 2) == pytest.approx(48.13, abs=0.01)


def test_ramp_reaches_one_and_stays():
    assert [losses.ramp(step, 4) for step in (0, 3, 9)] == [0.25, 1.0, 1.0]
    assert losses.ramp(0, 0) == 1.0
