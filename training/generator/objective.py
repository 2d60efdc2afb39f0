"""One step's losses: what the decoder pays, and what its opponent pays. Pictures are f32 [N, 3, S, S] in -1..1.

A VAE's decoder is never trained on what the prior draws, so its samples are worse than its reconstructions. A critic on
both closes the gap (VAE-GAN, Larsen et al. 2016); on frozen features it learns fast (Projected GAN, Sauer et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training import losses
from training.config import GeneratorConfig, GeneratorOpponentConfig
from training.editor import critic as critics
from training.editor.classifiers import FeatureClassifier
from training.editor.critic import Critic
from training.editor.features import CHANNELS, Features
from training.editor.objective import extract_features
from training.editor.views import Views, crop
from training.target_confidence import TargetConfidence
from training.vae.model import ConditionalVAE


class Opponent(nn.Module):
    """Critic and classifier on frozen features, trained along with the decoder and never exported."""

    def __init__(self, config: GeneratorOpponentConfig, attribute_count: int) -> None:
        super().__init__()
        self.critic = Critic(CHANNELS, attribute_count, config.critic_width)
        self.region_critics = nn.ModuleList(
            Critic(CHANNELS, attribute_count, config.critic_width) for _ in config.regions
        )
        self.classifier = FeatureClassifier(config.crop, attribute_count, config.classifier_width)


@dataclass(frozen=True)
class Batch:
    """Pictures `image` with their `labels` f32 [N, K] in {-1, +1}, latents and attributes to reconstruct them from, and
    latents, attributes and labels to draw samples with; `views` are the parts that the opponent sees."""

    image: Tensor
    labels: Tensor
    latent: Tensor
    attributes: Tensor
    sample_latent: Tensor
    sample_attributes: Tensor
    sample_labels: Tensor
    views: Views

    def part(self, rows: slice) -> Batch:
        return Batch(*(v.part(rows) if hasattr(v, "part") else v[rows] for v in vars(self).values()))


class OpponentInputs(NamedTuple):
    """What the opponent learns from, without gradients: features of the pictures, of reconstructions followed by
    samples, both of the whole and then of each region, and what the classifier says of the pictures, f32 [N, K]."""

    real: list[list[Tensor]]
    drawn: list[list[Tensor]]
    logits: Tensor


def decoder_loss(
    model: ConditionalVAE,
    opponent: Opponent,
    features: Features,
    batch: Batch,
    confidence: TargetConfidence,
    config: GeneratorConfig,
) -> tuple[Tensor, dict[str, Tensor], OpponentInputs]:
    """The decoder's loss, its parts for logging, and the inputs of the opponent's step."""
    weights, count = config.loss, len(batch.image)
    with torch.no_grad():
        real = _features(features, batch.image, batch, config)
        logits = opponent.classifier(real[0])
    drawn, found = _draw(model, features, batch, config)
    labels, weight = torch.cat([batch.labels, batch.sample_labels]), torch.ones_like(batch.sample_labels)
    parts = {
        "adversarial": critics.hinge_editor(opponent.critic(found[0], labels)),
        "attributes": losses.attribute_loss(
            opponent.classifier([x[count:] for x in found[0]]), confidence.of(batch.sample_labels), weight
        ),
        "pixels": losses.mean_squared_error(drawn[:count], batch.image),
        "features": feature_distance(real[0], [x[:count] for x in found[0]]),
    }
    total = sum(getattr(weights, name) * value for name, value in parts.items())
    for number, critic in enumerate(opponent.region_critics):
        part = critics.hinge_editor(critic(found[1 + number], labels))
        total = total + weights.adversarial * weights.region * part
        parts[f"adversarial_{number}"] = part
    return total, parts, OpponentInputs(real, [[x.detach() for x in part] for part in found], logits)


def feature_distance(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """The mean absolute difference of features f32 [N, C, H, W] at each stride, in units of each picture's mean."""
    axes = (1, 2, 3)
    shares = [(a - b).abs().mean(axes) / a.abs().mean(axes).clamp(min=1e-6) for a, b in zip(one, other, strict=True)]
    return torch.stack(shares).mean()


@torch.no_grad()
def opponent_inputs(
    model: ConditionalVAE, opponent: Opponent, features: Features, batch: Batch, config: GeneratorConfig
) -> OpponentInputs:
    """What the opponent learns from while the decoder waits."""
    real = _features(features, batch.image, batch, config)
    _, found = _draw(model, features, batch, config)
    return OpponentInputs(real, found, opponent.classifier(real[0]))


def _draw(
    model: ConditionalVAE, features: Features, batch: Batch, config: GeneratorConfig
) -> tuple[Tensor, list[list[Tensor]]]:
    """Reconstructions followed by samples, f32 [2 N, 3, S, S], and the features of what the opponent sees of them."""
    drawn = model.decode(
        torch.cat([batch.latent, batch.sample_latent]), torch.cat([batch.attributes, batch.sample_attributes])
    )
    return drawn, _features(features, drawn, batch, config)


def _features(features: Features, image: Tensor, batch: Batch, config: GeneratorConfig) -> list[list[Tensor]]:
    """Of the part of each picture that is seen, then of each region; of reconstructions and samples the same parts."""
    size = config.opponent.crop
    views = [crop(part, batch.views, size) for part in image.split(len(batch.image))]
    return extract_features(features, image, torch.cat(views), config.opponent.regions)


def opponent_loss(
    opponent: Opponent, batch: Batch, inputs: OpponentInputs, frequencies: Tensor
) -> tuple[Tensor, dict[str, Tensor], None]:
    """The critics' losses, pictures with their labels against all that was drawn, and the classifier's on pictures.

    `frequencies` f32 [K] are the shares of +1 in the data.
    """
    labels = torch.cat([batch.labels, batch.sample_labels])
    parts = {
        "classifier": losses.weighted_attribute_loss(opponent.classifier(inputs.real[0]), batch.labels, frequencies)
    }
    every = [opponent.critic, *opponent.region_critics]
    parts |= critics.hinge_of_all(every, inputs.real, batch.labels, inputs.drawn, labels)
    return sum(parts.values()), parts, None
