"""One training step's losses: what the model pays, and what its moving opponent pays.

The model reconstructs each picture with its own attributes and, from the same latent, decodes it once more with some
attributes inverted. The opponent judges that edited decode twice: as it is, and as the residual edit
x + decode(a') - decode(a), which is what reaches a photograph. On the latter the picture's own detail stays, so
there the opponent can only look at the edit itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from training import attributes as attribute_rules
from training import distributed, losses
from training.augmentation import augment
from training.config import Config
from training.model import ConditionalVAE, Discriminator, reparameterise

_KNOWN_LABEL_PROBABILITY = 0.5  # else the encoder's own estimate, as when a photograph comes without attributes
_SECOND_FLIP_PROBABILITY = 0.3
_PARTIAL_EDIT_PROBABILITY = 0.25  # intensities below 1, so that halfway means halfway
_LABEL_SMOOTHING = 0.1
_EDIT_SMOOTHING = 0.2


@dataclass
class Draws:
    """The randomness of one step, drawn on the CPU for the global batch and then cut to this process's part.

    Noise, flips and strengths do not depend on how many processes share a step. The augmentations of what the opponent
    sees do: each process draws its own from `generator`.
    """

    noise: Tensor  # f32 [N, Z]
    known: Tensor  # bool [N, K]
    flips: Tensor  # bool [N, K]
    strength: Tensor  # f32 [N, 1]
    generator: torch.Generator  # for augmentations

    @staticmethod
    def make(labels: Tensor, frequencies: Tensor, latent_size: int, seed: int) -> Draws:
        """`labels` f32 [N, K] and `frequencies` f32 [K] on the CPU; the same seed gives the same draws."""
        generator = torch.Generator().manual_seed(seed)
        count, attribute_count = labels.shape
        odds = losses.flip_probabilities(frequencies, labels)
        first = torch.multinomial(odds, 1, generator=generator)
        second = torch.multinomial(odds, 1, generator=generator)
        second = torch.where(torch.rand(count, 1, generator=generator) < _SECOND_FLIP_PROBABILITY, second, first)
        flips = torch.zeros(count, attribute_count, dtype=torch.bool).scatter_(1, torch.cat([first, second], 1), True)
        partial = torch.rand(count, 1, generator=generator) < _PARTIAL_EDIT_PROBABILITY
        strength = torch.where(partial, torch.rand(count, 1, generator=generator), torch.ones(count, 1))
        return Draws(
            noise=torch.randn(count, latent_size, generator=generator),
            known=torch.rand(count, attribute_count, generator=generator) < _KNOWN_LABEL_PROBABILITY,
            flips=flips,
            strength=strength,
            generator=generator,
        )

    def part(self, rows: slice, device: torch.device) -> Draws:
        """This process's rows, on its device, with an augmentation stream of their own."""
        moved = (t[rows].to(device) for t in (self.noise, self.known, self.flips, self.strength))
        generator = torch.Generator().manual_seed(self.generator.initial_seed() + 1 + (rows.start or 0))
        return Draws(*moved, generator=generator)


@dataclass
class Edits:
    """Edited pictures of a step, raw decodes first, then residual edits; f32 [2N, 3, S, S] with their labels."""

    pictures: Tensor
    original: Tensor  # f32 [2N, K]
    changed: Tensor  # bool [2N, K]
    whole: Tensor  # bool [2N, 1] edits at full strength


def model_loss(
    model: ConditionalVAE,
    opponent: Discriminator,
    image: Tensor,
    labels: Tensor,
    draws: Draws,
    exclusion: Tensor,
    config: Config,
    step: int,
) -> tuple[Tensor, dict[str, Tensor], Edits]:
    """The model's loss in nats per pixel value, its parts for logging, and the detached edits for the opponent.

    `image` f32 [N, 3, S, S] in -1..1, `labels` f32 [N, K] in {-1, +1}, `exclusion` bool [K, K].
    """
    weights = config.loss
    given = torch.where(draws.known, labels, torch.full_like(labels, torch.nan))
    posterior = model.encode(image, given)
    latent = reparameterise(posterior.mean, posterior.log_variance, draws.noise)
    shown = posterior.attributes  # f32 [N, K]
    target = attribute_rules.invert(shown, labels, draws.flips, exclusion)
    changed = draws.flips | (target != shown)
    asked = shown + draws.strength * (target - shown)

    # One pass over both sets keeps the matrix units busy.
    both = model.decode(torch.cat([latent, latent]), torch.cat([shown, asked]))
    reconstruction, edited = both.chunk(2)
    pictures = torch.cat([edited, image + edited - reconstruction]).clamp(-1.2, 1.2)
    realness, logits = opponent(augment(pictures, draws.generator))

    mse = losses.mean_squared_error(reconstruction, image)
    kl = losses.kl_divergence(posterior.mean, posterior.log_variance).mean()
    smooth = labels * (1 - _LABEL_SMOOTHING)
    # Smoothed targets stop rewarding an edit once it is as plain as on a real picture. Everything else should look
    # to the opponent as it did before the edit; hard labels would reward caricature there.
    with torch.no_grad():
        before = 2 * torch.sigmoid(opponent(image)[1]) - 1  # f32 [N, K]
    wanted = torch.where(changed, asked * (1 - _EDIT_SMOOTHING), before).repeat(2, 1)
    twice = changed.repeat(2, 1)
    parts = {
        "nll": losses.calibrated_nll(mse, distributed.average(mse)),
        "kl": kl,
        "estimate": losses.attribute_loss(posterior.attribute_logits, smooth, torch.ones_like(labels)),
        "edit": losses.attribute_loss(logits, wanted, twice.float()),
        "keep": losses.attribute_loss(logits, wanted, (~twice).float()),
        "change": (edited - reconstruction).abs().mean(),
        "adversarial": losses.hinge_generator(realness),
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
    edits = Edits(
        pictures=pictures.detach(),
        original=labels.repeat(2, 1),
        changed=twice,
        whole=(draws.strength == 1).repeat(2, 1),
    )
    return total, {**parts, "mse": mse}, edits


def opponent_loss(
    opponent: Discriminator, image: Tensor, labels: Tensor, edits: Edits, generator: torch.Generator, config: Config
) -> tuple[Tensor, dict[str, Tensor]]:
    """The opponent's loss: real from edited (hinge), attributes of real pictures, and what an edit failed to change.

    Every other edit is shown, alternately raw and residual, so that real and edited pictures come in equal numbers.
    """
    count = len(image)
    rows = torch.arange(count, device=image.device)
    rows = rows + count * (rows % 2)
    pictures = augment(torch.cat([image, edits.pictures[rows]]), generator)
    realness, logits = opponent(pictures)
    failed = edits.changed[rows] & edits.whole[rows]
    parts = {
        "opponent_hinge": losses.hinge_discriminator(realness[:count], realness[count:]),
        "opponent_real": losses.attribute_loss(logits[:count], labels, torch.ones_like(labels)),
        "opponent_edit": losses.attribute_loss(logits[count:], edits.original[rows], failed.float()),
    }
    total = parts["opponent_hinge"] + parts["opponent_real"] + config.loss.opponent * parts["opponent_edit"]
    return total, parts
