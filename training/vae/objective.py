"""One training step's losses: what the model pays, and what its moving opponent pays.

The model reconstructs each picture with its own attributes and, from the same latent, decodes it once more with some
attributes inverted. The opponent sees a third of these edits as they are, and the others as the residual edit
x + decode(a') - decode(a), which is what reaches a photograph. On the latter the picture's own detail stays, so
there the opponent can only look at the edit itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from training import attributes as attribute_rules
from training import distributed, losses
from training.adversarial import worst_case
from training.config import Config, LossConfig, OpponentConfig
from training.noise import own_noise
from training.target_confidence import TargetConfidence
from training.vae.augmentation import REFERENCE_SIZE, AugmentationParameters, augment, degrade
from training.vae.model import ConditionalVAE, Critic, Opponent, Posterior, reparameterise

_DEFAULT = LossConfig(), OpponentConfig()


@dataclass(frozen=True)
class Draws:
    """The randomness of one step, and whatever else depends on a picture's row in the batch.

    All of it belongs to the global batch and is then cut, so that neither the number of processes nor that of the
    passes in which one of them computes its part changes what is computed.
    """

    noise: Tensor  # f32 [N, Z]
    flips: Tensor  # bool [N, K]
    strength: Tensor  # f32 [N, 1]
    labelled: Tensor  # bool [N]: encoded with the labels, as a caller may who knows them
    raw: Tensor  # bool [N]: edits that are looked at as they are; residual ones are the harder and get the larger part
    reach: Tensor  # f32 [N]: shares of the worst cases' radius, from none to all, as untouched pictures teach as well
    steepness: Tensor  # f32 [N]: what each real picture weighs in R1, nothing for most; 1 on average
    real: AugmentationParameters  # as the opponent sees pictures,
    edited: AugmentationParameters  # edits,
    answered: AugmentationParameters  # and the model its own edits through the opponent

    @staticmethod
    def make(
        odds: Tensor,
        latent_size: int,
        seed: int,
        count: int | None = None,
        rows: slice = slice(None),
        labelled_share: float = 0.0,
        sections: tuple[LossConfig, OpponentConfig] = _DEFAULT,
        image_size: int = 64,
    ) -> Draws:
        """Those of the pictures `rows` in a batch of `count`, on the CPU; the same seed gives the same draws.

        `odds` f32 [N, K] of inverting each attribute are those of the N pictures in `rows`. Without `count` they are
        the whole batch. `sections` are the run's `loss` and `opponent`.
        """
        loss, opponent = sections
        count = len(odds) if count is None else count
        generator = torch.Generator().manual_seed(seed)
        chance = torch.rand(count, 2, generator=generator)[rows]
        once = torch.rand(count, 1, generator=generator)[rows] >= loss.second_edit
        chosen = losses.choose(odds, chance)  # [N, 2]
        chosen = torch.where(once, chosen[:, :1], chosen)
        partly = torch.rand(count, 1, generator=generator) < loss.partial_edit
        strength = torch.where(partly, torch.rand(count, 1, generator=generator), torch.ones(count, 1))
        row = torch.arange(count)
        steep = row % loss.slope_every == 0
        seeds = torch.randint(2**62, (count,), generator=generator)
        real, edited, answered = (
            AugmentationParameters.draw(count, generator, opponent, image_size).part(rows) for _ in range(3)
        )
        return Draws(
            noise=own_noise(seeds[rows], (latent_size,)),
            flips=torch.zeros(odds.shape, dtype=torch.bool).scatter_(1, chosen, True),
            strength=strength[rows],
            # Evenly spread, so that all parts of the batch get about as many.
            labelled=(((row + 1) * labelled_share).long() > (row * labelled_share).long())[rows],
            # Not the first of them, but every n-th: all parts of the batch get about as many, and as much work.
            raw=(row % loss.raw_every == loss.raw_every - 1)[rows],
            reach=torch.linspace(0, 1, count)[rows],
            steepness=(steep * (count / steep.sum()))[rows],
            real=real,
            edited=edited,
            answered=answered,
        )

    def part(self, rows: slice) -> Draws:
        return Draws(*(v.part(rows) if isinstance(v, AugmentationParameters) else v[rows] for v in vars(self).values()))

    def to(self, device: torch.device) -> Draws:
        return Draws(*(value.to(device) for value in vars(self).values()))


class Edits(NamedTuple):
    """`pictures` f32 [N, 3, S, S] as the opponent should see them, and the `logits` f32 [N, K] it gave this time."""

    pictures: Tensor
    logits: Tensor


def model_loss(
    model: ConditionalVAE,
    opponent: Opponent,
    image: Tensor,
    labels: Tensor,
    draws: Draws,
    exclusion: Tensor,
    frequencies: Tensor,
    target_confidence: TargetConfidence,
    config: Config,
    step: int,
    progress: float,
    variance: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor], Edits | None]:
    """The model's loss in nats per pixel value, its parts for logging, and the edits if there are any.

    `image` f32 [N, 3, S, S] in -1..1, `labels` f32 [N, K] in {-1, +1}, `exclusion` bool [K, K],
    `frequencies` f32 [K] the shares of +1 in the data; `progress` is the share
    of the run that is done, 0 to 1. `variance` is the mean squared error of the global batch, a scalar; without it,
    these N pictures and those that the other processes compute right now are all of the batch.
    """
    weights = config.loss
    posterior, latent = _sample(model, image, labels, draws)
    current = posterior.attributes  # f32 [N, K]
    if not weights.edits:
        reconstruction = model.decode(latent, current)
        parts = _likelihood(posterior, reconstruction, image, labels, frequencies, variance, weights.label_smoothing)
        return _bound(parts, config, step, image[0].numel()), parts, None
    target = attribute_rules.invert(current, labels, draws.flips, exclusion)
    # What an added attribute takes away counts where it was there, and less than what was requested.
    cleared = ~draws.flips & (target != current)
    edit_weight = torch.where(draws.flips, 1.0, weights.cleared * (cleared & (labels > 0)).float())
    requested = current + draws.strength * (target - current)

    # One pass over both sets keeps the matrix units busy.
    both = model.decode(torch.cat([latent, latent]), torch.cat([current, requested]))
    reconstruction, edited = both.chunk(2)
    raw = draws.raw[:, None, None, None]
    pictures = torch.where(raw, edited, image + edited - reconstruction).clamp(-1.2, 1.2)
    view = augment(pictures, draws.answered)
    realness, logits = opponent.critic(view), opponent.classifier(degrade(view, draws.answered))

    # An edit should be about as clear as on real pictures. Everything else should look to the opponent as it
    # did before the edit; hard labels would reward caricature there.
    with torch.no_grad():
        unedited = degrade(augment(image, draws.answered), draws.answered)
        before = 2 * torch.sigmoid(opponent.classifier(unedited)) - 1  # f32 [N, K]
    targets = torch.where(draws.flips | cleared, target_confidence.of(requested), before)
    parts = _likelihood(posterior, reconstruction, image, labels, frequencies, variance, weights.label_smoothing)
    parts |= {
        "edit": losses.attribute_loss(logits, targets, edit_weight),
        "keep": losses.attribute_loss(logits, targets, (~draws.flips & ~cleared).float()),
        "change": (edited - reconstruction).abs().mean(),
        "adversarial": losses.non_saturating(
            own_kind(realness, draws.raw),
            torch.where(draws.raw, losses.late_factor(progress, weights.sharpening), 1.0),
        ),
    }
    edit_ramp = losses.ramp(step, weights.edit_warmup_steps)
    total = (
        _bound(parts, config, step, image[0].numel())
        + edit_ramp * weights.edit * parts["edit"]
        + edit_ramp * weights.keep * parts["keep"]
        + edit_ramp * weights.change * parts["change"]
        + edit_ramp * weights.adversarial * parts["adversarial"]
    )
    return total, parts, Edits(pictures.detach(), logits.detach())


def _likelihood(
    posterior: Posterior,
    reconstruction: Tensor,
    image: Tensor,
    labels: Tensor,
    frequencies: Tensor,
    variance: Tensor | None,
    label_smoothing: float,
) -> dict[str, Tensor]:
    """The terms of the evidence bound, and the encoder's estimates', in which rare attributes weigh as much."""
    mse = losses.mean_squared_error(reconstruction, image)
    smooth = labels * (1 - label_smoothing)
    return {
        "nll": losses.calibrated_nll(mse, distributed.average(mse) if variance is None else variance),
        "kl": losses.kl_divergence(posterior.mean, posterior.log_variance).mean(),
        "estimate": losses.weighted_attribute_loss(posterior.attribute_logits, smooth, frequencies),
        "mse": mse,
    }


def _bound(parts: dict[str, Tensor], config: Config, step: int, values: int) -> Tensor:
    """The weighted sum of these terms, for pictures of so many `values`."""
    beta = config.loss.beta * losses.ramp(step, config.loss.kl_warmup_steps)
    return parts["nll"] + beta * parts["kl"] / values + config.loss.estimate * parts["estimate"]


def _sample(model: ConditionalVAE, image: Tensor, labels: Tensor, draws: Draws) -> tuple[Posterior, Tensor]:
    """The posterior of pictures f32 [N, 3, S, S] and a latent f32 [N, Z] from it."""
    # Most without their labels, since a photograph comes without.
    known = torch.where(draws.labelled[:, None], labels, torch.nan)
    posterior = model.encode(image, known)
    return posterior, reparameterise(posterior.mean, posterior.log_variance, draws.noise)


@torch.no_grad()
def reconstruction_error(model: ConditionalVAE, image: Tensor, labels: Tensor, draws: Draws) -> Tensor:
    """The mean squared error that `model_loss` will find on pictures f32 [N, 3, S, S], without gradients."""
    posterior, latent = _sample(model, image, labels, draws)
    return losses.mean_squared_error(model.decode(latent, posterior.attributes), image)


def own_kind(realness: Tensor, raw: Tensor) -> Tensor:
    """Of realness f32 [N, 2, P] that of each edit's own kind, f32 [N, P]: the first where bool [N] `raw`."""
    return torch.where(raw[:, None], realness[:, 0], realness[:, 1])


def opponent_loss(
    opponent: Opponent,
    image: Tensor,
    labels: Tensor,
    frequencies: Tensor,
    edits: Tensor,
    draws: Draws,
    config: Config,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The critic's loss, real from edited (hinge, with R1), and the classifier's, attributes of real pictures.

    Returns their sum, its parts for logging, and the classifier's logits f32 [N, K] on the real pictures as they are
    degraded for it.

    `frequencies` f32 [K] are the shares of +1 in the data, `edits` f32 [N, 3, S, S] the pictures of model_loss.
    """
    real, fake = augment(image, draws.real), augment(edits, draws.edited)
    realness, edited = opponent.critic(torch.cat([real, fake])).chunk(2)
    lesson = partial(losses.balanced_attribute_loss, labels=labels, frequencies=frequencies)
    # A change of each pixel by as much has a norm that grows with the picture's side.
    radius = config.loss.robustness * image.shape[-1] / REFERENCE_SIZE * draws.reach
    hard, logits = worst_case(opponent.classifier, degrade(real, draws.real), lesson, radius)
    raw_share = 1 / config.loss.raw_every
    kinds = realness.new_tensor([raw_share, 1 - raw_share]) if config.loss.even_kinds else None
    parts = {
        "critic": losses.hinge_discriminator(realness, own_kind(edited, draws.raw), kinds),
        "slope": slope(opponent.critic, real, draws.steepness),
        "classifier": lesson(opponent.classifier(hard)),
    }
    return parts["critic"] + 0.5 * config.loss.slope * parts["slope"] + parts["classifier"], parts, logits


def slope(critic: Critic, image: Tensor, weight: Tensor) -> Tensor:
    """R1: the mean squared gradient of realness at real pictures f32 [N, 3, S, S] (Mescheder et al. 2018).

    Each picture counts with its `weight` f32 [N]; those that weigh nothing cost nothing.
    """
    counted = weight > 0
    if not counted.any():
        return weight.new_zeros(())
    probe = image.detach()[counted].requires_grad_()
    (gradient,) = torch.autograd.grad(critic(probe).mean(dim=(1, 2)).sum(), probe, create_graph=True)
    return (gradient.square().sum(dim=(1, 2, 3)) * weight[counted]).sum() / len(image)
