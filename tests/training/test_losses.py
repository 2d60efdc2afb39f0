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
    odds = losses.flip_probabilities(frequencies, labels, torch.ones_like(labels))
    torch.testing.assert_close(odds.sum(1), torch.ones(len(labels)))
    removed, added = odds[labels[:, 0] > 0, 0].sum(), odds[labels[:, 0] < 0, 0].sum()
    assert 0.4 < removed / added < 2.5  # 0.05 if attributes were drawn evenly


def test_what_is_difficult_is_flipped_more_often():
    labels = torch.tensor([[1.0, 1.0, -1.0]])
    odds = losses.flip_probabilities(torch.full((3,), 0.5), labels, torch.tensor([[3.0, 1.0, 1.0]]))
    torch.testing.assert_close(odds, torch.tensor([[0.6, 0.2, 0.2]]))


def test_a_balanced_loss_still_learns_the_true_odds():
    """The constant that answers a rare attribute best is its true log-odds, as without balancing."""
    frequencies = torch.tensor([0.1, 0.7])
    labels = torch.ones(1000, 2)
    labels[100:, 0] = -1
    labels[700:, 1] = -1
    logits = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.LBFGS([logits], max_iter=100)

    def loss():
        optimiser.zero_grad()
        value = losses.balanced_attribute_loss(logits.expand(1000, 2), labels, frequencies)
        value.backward()
        return value

    optimiser.step(loss)
    torch.testing.assert_close(logits.detach(), torch.logit(frequencies), atol=1e-3, rtol=0)


def test_in_a_balanced_loss_both_values_pull_alike():
    logits = torch.full((1000, 1), math.log(0.1 / 0.9), requires_grad=True)
    labels = torch.ones(1000, 1)
    labels[100:] = -1
    losses.balanced_attribute_loss(logits, labels, torch.tensor([0.1])).backward()
    present, absent = logits.grad[:100].sum().item(), logits.grad[100:].sum().item()
    assert present == pytest.approx(-absent)
    assert logits.grad[0].item() == pytest.approx(-9 * logits.grad[-1].item(), rel=1e-4)


def test_the_hinge_is_zero_only_beyond_the_margin():
    far, near = torch.full((4, 2, 3), 1.5), torch.full((4, 2, 3), 0.5)
    kinds = torch.tensor([0.25, 0.75])
    assert losses.hinge_discriminator(far, -far[:, 0], kinds).item() == 0
    assert losses.hinge_discriminator(near, -near[:, 0], kinds).item() == pytest.approx(1.0)


def test_each_kind_of_realness_counts_with_its_share():
    real = torch.tensor([[[0.0], [1.0]], [[-1.0], [0.5]]])  # the first kind pays 1 and 2, the second 0 and 0.5
    assert losses.hinge_discriminator(real, torch.full((2, 1), -1.0), torch.tensor([0.25, 0.75])).item() == (
        pytest.approx(0.25 * 1.5 + 0.75 * 0.25)
    )
    assert losses.hinge_discriminator(real, torch.full((2, 1), -1.0)).item() == pytest.approx(0.5 * 1.5 + 0.5 * 0.25)


def test_patches_that_give_an_edit_away_weigh_most():
    logits = torch.tensor([[-4.0, 0.0, 4.0]], requires_grad=True)
    losses.non_saturating(logits, torch.ones(1)).backward()
    worst, even, best = (-3 * logits.grad[0]).tolist()
    assert worst == pytest.approx(0.98, abs=0.01)
    assert even == pytest.approx(0.5)
    assert best < 0.02


def test_pictures_weigh_what_they_are_given_in_the_realness_term():
    logits = torch.tensor([[0.0, 0.0], [-4.0, 4.0]])
    one, other = (losses.non_saturating(logits, torch.tensor(weight)).item() for weight in ([2.0, 0.0], [0.0, 2.0]))
    assert one == pytest.approx(math.log(2))
    assert other == pytest.approx((math.log1p(math.exp(4)) + math.log1p(math.exp(-4))) / 2)


def test_the_late_factor_sets_in_half_way():
    assert [losses.late_factor(progress, 5.0) for progress in (0.0, 0.5, 0.5625, 0.625, 1.0)] == [1, 1, 3, 5, 5]


def test_psnr_of_one_level_in_255():
    assert losses.psnr((2 / 255) ** 2) == pytest.approx(48.13, abs=0.01)


def test_ramp_reaches_one_and_stays():
    assert [losses.ramp(step, 4) for step in (0, 3, 9)] == [0.25, 1.0, 1.0]
    assert losses.ramp(0, 0) == 1.0


def test_choices_follow_the_odds_of_their_own_row():
    odds = torch.tensor([[1.0, 0.0, 3.0], [0.0, 5.0, 0.0]])
    chance = torch.rand(2, 20_000, generator=torch.Generator().manual_seed(0))
    chosen = losses.choose(odds, chance)
    assert [(chosen[0] == column).float().mean().item() for column in range(3)] == pytest.approx(
        [0.25, 0, 0.75], abs=0.02
    )
    assert (chosen[1] == 1).all()
    assert torch.equal(losses.choose(odds[1:], chance[1:]), chosen[1:])
    extremes = torch.tensor([[0.0, 1 - 2**-24]] * 2)
    assert losses.choose(odds, extremes).tolist() == [[0, 2], [1, 1]]
