"""One training step's losses: what the model pays, and what its moving opponent pays.

The model reconstructs each picture with its own attributes and, from the same latent, decodes it once more with some
attributes inverted. The opponent sees a third of these edits as they are, and the others as the residual edit
x + decode(a') - decode(a), which is what reaches a photograph. On the latter the picture's own detail stays, so
there the opponent can only look at the edit itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from training import attributes as attribute_rules
from training import distributed, losses
from training.augmentation import augment, degrade
from training.config import Config
from training.model import Classifier, ConditionalVAE, Critic, Opponent, reparameterise
from training.plainness import Plainness

_SECOND_FLIP_PROBABILITY = 0.3
_PARTIAL_EDIT_PROBABILITY = 0.25  # intensities below 1, so that halfway means halfway
_LABEL_SMOOTHING = 0.1


@dataclass
class Draws:
    """The randomness of one step, drawn on the CPU for the global batch and then cut to this process's part.

    Noise, flips and strengths do not depend on how many processes share a step. The augmentations of what the opponent
    sees do: each process draws its own from `generator`.
    """

    noise: Tensor  # f32 [N, Z]
    flips: Tensor  # bool [N, K]
    strength: Tensor  # f32 [N, 1]
    generator: torch.Generator  # for augmentations

    @staticmethod
    def make(odds: Tensor, latent_size: int, seed: int) -> Draws:
        """`odds` f32 [N, K] of inverting each attribute, on the CPU; the same seed gives the same draws."""
        generator = torch.Generator().manual_seed(seed)
        count, attribute_count = odds.shape
        first = torch.multinomial(odds, 1, generator=generator)
        second = torch.multinomial(odds, 1, generator=generator)
        second = torch.where(torch.rand(count, 1, generator=generator) < _SECOND_FLIP_PROBABILITY, second, first)
        flips = torch.zeros(count, attribute_count, dtype=torch.bool).scatter_(1, torch.cat([first, second], 1), True)
        partial = torch.rand(count, 1, generator=generator) < _PARTIAL_EDIT_PROBABILITY
        strength = torch.where(partial, torch.rand(count, 1, generator=generator), torch.ones(count, 1))
        return Draws(
            noise=torch.randn(count, latent_size, generator=generator),
            flips=flips,
            strength=strength,
            generator=generator,
        )

    def part(self, rows: slice, device: torch.device) -> Draws:
        """This process's rows, on its device, with an augmentation stream of their own."""
        moved = (t[rows].to(device) for t in (self.noise, self.flips, self.strength))
        generator = torch.Generator().manual_seed(self.generator.initial_seed() + 1 + (rows.start or 0))
        return Draws(*moved, generator=generator)


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
    plainness: Plainness,
    config: Config,
    step: int,
    progress: float,
) -> tuple[Tensor, dict[str, Tensor], Edits]:
    """The model's loss in nats per pixel value, its parts for logging, and the edits.

    `image` f32 [N, 3, S, S] in -1..1, `labels` f32 [N, K] in {-1, +1}, `exclusion` bool [K, K]; `progress` is the share
    of the run that is done, 0 to 1.
    """
    weights = config.loss
    # Never with labels given: a photograph comes without, and a latent should not rely on them.
    posterior = model.encode(image, torch.full_like(labels, torch.nan))
    latent = reparameterise(posterior.mean, posterior.log_variance, draws.noise)
    shown = posterior.attributes  # f32 [N, K]
    target = attribute_rules.invert(shown, labels, draws.flips, exclusion)
    changed = draws.flips | (target != shown)
    asked = shown + draws.strength * (target - shown)

    # One pass over both sets keeps the matrix units busy.
    both = model.decode(torch.cat([latent, latent]), torch.cat([shown, asked]))
    reconstruction, edited = both.chunk(2)
    raw = raw_count(len(image))
    pictures = torch.cat([edited[:raw], (image + edited - reconstruction)[raw:]]).clamp(-1.2, 1.2)
    seen = augment(pictures, draws.generator)
    realness, logits = opponent.critic(seen), opponent.classifier(degrade(seen, draws.generator))

    mse = losses.mean_squared_error(reconstruction, image)
    kl = losses.kl_divergence(posterior.mean, posterior.log_variance).mean()
    smooth = labels * (1 - _LABEL_SMOOTHING)
    # An edit should be about as plain as on real pictures. Everything else should look to the opponent as it
    # did before the edit; hard labels would reward caricature there.
    with torch.no_grad():
        before = 2 * torch.sigmoid(opponent.classifier(image)) - 1  # f32 [N, K]
    wanted = torch.where(changed, plainness.of(asked), before)
    parts = {
        "nll": losses.calibrated_nll(mse, distributed.average(mse)),
        "kl": kl,
        "estimate": losses.attribute_loss(posterior.attribute_logits, smooth, torch.ones_like(labels)),
        "edit": losses.attribute_loss(logits, wanted, changed.float()),
        "keep": losses.attribute_loss(logits, wanted, (~changed).float()),
        "change": (edited - reconstruction).abs().mean(),
        "adversarial": losses.non_saturating(
            own_kind(realness), realness_weights(realness, losses.late_factor(progress, weights.sharpening))
        ),
    }
    edit_ramp = losses.ramp(step, weights.edit_warmup_steps)
    total = (
        parts["nll"]
        + weights.beta * losses.ramp(step, weights.kl_warmup_steps) * kl / image[0].numel()
        + weights.estimate * parts["estimate"]
        + edit_ramp * weights.edit * parts["edit"]
        + edit_ramp * weights.keep * parts["keep"]
        + edit_ramp * weights.change * parts["change"]
        + edit_ramp * weights.adversarial * parts["adversarial"]
    )
    return total, {**parts, "mse": mse}, Edits(pictures.detach(), logits.detach())


def raw_count(count: int) -> int:
    """How many of `count` edits are looked at raw. Residual ones are the harder and get the larger part."""
    return count // 3


def realness_weights(realness: Tensor, raw: float) -> Tensor:
    """What each edit weighs in the adversarial term, f32 [N]: `raw` if it is looked at raw, else 1.

    `realness` f32 [N, 2, P] is the critic's.
    """
    rows = torch.arange(len(realness), device=realness.device)
    return torch.where(rows < raw_count(len(realness)), raw, 1.0)


def own_kind(realness: Tensor) -> Tensor:
    """Of realness f32 [N, 2, P] that of each edit's own kind, f32 [N, P]: the first are raw, the rest residual."""
    raw = raw_count(len(realness))
    return torch.cat([realness[:raw, 0], realness[raw:, 1]])


def opponent_loss(
    opponent: Opponent,
    image: Tensor,
    labels: Tensor,
    frequencies: Tensor,
    edits: Tensor,
    generator: torch.Generator,
    config: Config,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """The critic's loss, real from edited (hinge, with R1), and the classifier's, attributes of real pictures.

    Returns their sum, its parts for logging, and the classifier's logits f32 [N, K] on the real pictures as they are
    degraded for it.

    `frequencies` f32 [K] are the shares of +1 in the data, `edits` f32 [N, 3, S, S] the pictures of model_loss.
    """
    real, fake = augment(torch.cat([image, edits]), generator).chunk(2)
    realness, edited = opponent.critic(torch.cat([real, fake])).chunk(2)
    lesson = partial(losses.balanced_attribute_loss, labels=labels, frequencies=frequencies)
    hard, logits = worst_case(opponent.classifier, degrade(real, generator), lesson, config.loss.robustness)
    parts = {
        "critic": losses.hinge_discriminator(realness, own_kind(edited)),
        "slope": slope(opponent.critic, real[: max(1, len(real) // 4)]),
        "classifier": lesson(opponent.classifier(hard)),
    }
    return parts["critic"] + 0.5 * config.loss.slope * parts["slope"] + parts["classifier"], parts, logits


def worst_case(
    classifier: Classifier, image: Tensor, loss: Callable[[Tensor], Tensor], radius: float
) -> tuple[Tensor, Tensor]:
    """Pictures moved by up to `radius` (L2 over f32 [3, S, S]) to where their logits lose more, in one gradient step.

    The logits f32 [N, K] that come second are those before the move.

    A classifier that withstands this has gradients that look like the attribute itself (Tsipras et al. 2019), so an
    edit that follows them draws a feature and not a pattern that happens to score.
    """
    probe = image.detach().requires_grad_()
    logits = classifier(probe)
    (gradient,) = torch.autograd.grad(loss(logits), probe)
    length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
    # From none to all of the radius over the batch: untouched pictures stay part of the lesson.
    share = torch.linspace(0, 1, len(image), device=image.device)[:, None, None, None]
    return (image + radius * share * gradient / length).detach(), logits.detach()


def slope(critic: Critic, image: Tensor) -> Tensor:
    """R1: the mean squared gradient of realness at real pictures f32 [N, 3, S, S] (Mescheder et al. 2018)."""
    probe = image.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(probe).mean(dim=(1, 2)).sum(), probe, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()
