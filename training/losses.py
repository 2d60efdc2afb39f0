"""The formulas of the objective: short pure functions, each with its source. Reductions are stated."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_squared_error(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Mean over batch, channels and pixels of two f32 [N, 3, S, S]; a scalar in squared units of the input."""
    return (reconstruction - image).square().mean()


def calibrated_nll(mse: Tensor, variance: Tensor) -> Tensor:
    """Gaussian negative log-likelihood in nats per pixel value, up to log(2 pi)/2 (sigma-VAE, Rybkin et al. 2021).

    With `variance` the batch's own mean squared error, its maximum-likelihood value, the gradient equals that of
    log(mse) / 2; it comes as an argument so that several processes can share one.
    """
    return 0.5 * (mse / variance + variance.log())


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) in nats, summed over Z, f32 [N] (Kingma & Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1)


def attribute_loss(logits: Tensor, targets: Tensor, weight: Tensor) -> Tensor:
    """Weighted binary cross-entropy of `logits` f32 [N, K] against `targets` in -1..1, f32 [N, K].

    Each picture's terms are averaged by `weight` f32 [N, K], then the pictures are averaged. A picture without
    weight contributes zero.
    """
    loss = attribute_errors(logits, targets)
    return ((loss * weight).sum(1) / weight.sum(1).clamp(min=1.0)).mean()


def attribute_errors(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of `logits` against `targets` in -1..1, entry by entry; f32 [N, K]."""
    return F.binary_cross_entropy_with_logits(logits, 0.5 * (targets + 1.0), reduction="none")


def balanced_attribute_loss(logits: Tensor, labels: Tensor, frequencies: Tensor) -> Tensor:
    """Cross-entropy in which both values of an attribute weigh about the same, however rare one of them is.

    `logits` f32 [N, K] are those of the true `frequencies` f32 [K]. They are trained as the logits of a balanced world,
    shifted by the difference of the two worlds' prior log-odds (logit adjustment, Menon et al. 2021): without that,
    "never" is a fair answer to a question about one face in fifty, and nothing can be learned from who gives it.
    """
    present, absent = _balancing_weights(frequencies)  # 2 x [K]
    weight = torch.where(labels > 0, present, absent)  # [N, K]
    return (weight * attribute_errors(logits + (present / absent).log(), labels)).mean()


def weighted_attribute_loss(logits: Tensor, labels: Tensor, frequencies: Tensor) -> Tensor:
    """Cross-entropy in which both values of an attribute weigh about the same, with logits of that balanced world.

    `logits` and `labels` f32 [N, K], `frequencies` f32 [K] of +1 in the data.
    """
    present, absent = _balancing_weights(frequencies)  # 2 x [K]
    return (torch.where(labels > 0, present, absent) * attribute_errors(logits, labels)).mean()


def _balancing_weights(frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """What a present and what an absent attribute weigh, f32 [K] each: 0.5 over its share, bounded."""
    return tuple((0.5 / share.clamp(min=0.01)).clamp(max=10.0) for share in (frequencies, 1.0 - frequencies))


def hinge_discriminator(real: Tensor, fake: Tensor, kinds: Tensor | None = None) -> Tensor:
    """Hinge loss of a critic with G kinds of realness (Lim & Ye 2017, equation 8).

    Of real pictures there are logits of each kind, f32 [N, G, P], and kind g counts with `kinds`[g], f32 [G], which add
    up to 1; without them all count alike. Of the others there are those of their own kind, f32 [N, P].
    """
    errors = F.relu(1.0 - real)
    real_loss = errors.mean() if kinds is None else (errors.mean(dim=(0, 2)) * kinds).sum()
    return real_loss + F.relu(1.0 + fake).mean()


def non_saturating(fake: Tensor, weight: Tensor) -> Tensor:
    """What the model pays for edits that look edited: -log sigmoid of the logit (Goodfellow et al. 2014).

    Averaged over f32 [N, P], each picture times its `weight` f32 [N]. Where a critic is content there is little left to
    gain, so the patches that give an edit away weigh most.
    """
    return (F.softplus(-fake).mean(dim=1) * weight).mean()


def psnr(mse: float | Tensor) -> float:
    """Peak signal-to-noise ratio in dB for a mean squared error on the scale -1..1 (peak-to-peak 2)."""
    return -10.0 * math.log10(float(mse) / 4.0)


def ramp(step: int, steps: int) -> float:
    """A linear ramp that reaches 1 after `steps` steps."""
    return 1.0 if steps == 0 else min(1.0, (step + 1) / steps)


def late_factor(progress: float, final: float) -> float:
    """1 in the first half of a run, then within an eighth of it on to `final`; `progress` is 0 to 1."""
    return 1.0 + (final - 1.0) * min(1.0, max(0.0, 8.0 * (progress - 0.5)))


def flip_probabilities(frequencies: Tensor, labels: Tensor, difficulty: Tensor) -> Tensor:
    """Which single attribute to invert: f32 [N, K], rows sum to 1.

    `frequencies` f32 [K] are the shares of +1 in the data. An attribute is drawn in inverse proportion to how
    common its present value is, so that over the data adding and removing come out far more even than labels are;
    and in proportion to `difficulty` f32 [N, K], above 0.
    """
    share = torch.where(labels > 0, frequencies, 1.0 - frequencies).clamp(min=0.01)  # [N, K]
    odds = difficulty / share
    return odds / odds.sum(dim=1, keepdim=True)


def choose(odds: Tensor, chance: Tensor) -> Tensor:
    """Columns int64 [N, M], each row's drawn by its own `odds` f32 [N, K] with `chance` f32 [N, M] in [0, 1).

    By the inverse of the cumulative distribution, so that a row's choice depends on no other row.
    """
    reached = odds.cumsum(dim=1)  # [N, K]
    return torch.searchsorted(reached, chance * reached[:, -1:], right=True).clamp(max=odds.shape[1] - 1)
