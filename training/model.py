"""The conditional beta-VAE: an encoder, a FiLM-conditioned residual decoder, and a conditional prior.

The posterior mean splits into what the attributes explain and what they do not:

    mean(x) = W g a + b + r(x, a)        decoder input z = r + W g a' + b,  FiLM(z, a')

so a prior p(z|a) = N(W g a + b, I) on z is a standard normal prior on the residual r, and changing a to a' moves z by
W g (a' - a). The residual is what Facet calls `latent`. The gain g, one number for each attribute, is 1 in training and
calibrated afterwards.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import ModelConfig


class Posterior(NamedTuple):
    """`mean` f32 [N, Z] and `log_variance` f32 [N, Z] of the residual latent; `attribute_logits` f32 [N, K]."""

    mean: Tensor
    log_variance: Tensor
    attribute_logits: Tensor
    attributes: Tensor  # f32 [N, K], as given, else estimated


def reparameterise(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A sample mean + sigma * noise, all f32 [N, Z] (Kingma & Welling 2014, section 2.4)."""
    return mean + torch.exp(0.5 * log_variance) * noise


def fill_unknown(attributes: Tensor, logits: Tensor) -> Tensor:
    """Replace NaN in `attributes` f32 [N, K] by the expectation 2 sigmoid(logit) - 1 = tanh(logit / 2)."""
    return torch.where(torch.isnan(attributes), torch.tanh(0.5 * logits), attributes)


def _groups(channels: int) -> int:
    return next(g for g in (8, 4, 2, 1) if channels % g == 0)


class DownBlock(nn.Module):
    """Halve the resolution, then refine: [N, C, H, W] -> [N, C', H/2, W/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(_groups(outputs), outputs)
        self.refine = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(x)
        return x + self.refine(F.silu(self.norm(x)))


class Encoder(nn.Module):
    """Pictures to posterior and attribute logits.

    Takes `image` f32 [N, 3, S, S] in -1..1.
    """

    def __init__(self, config: ModelConfig, image_size: int, attribute_count: int) -> None:
        super().__init__()
        channels = config.encoder_channels
        self.stem = nn.Conv2d(12, channels[0], 3, padding=1)  # after pixel_unshuffle
        self.blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(channels))
        side = image_size >> len(channels)
        features = channels[-1] * side * side
        self.latent_size = config.latent_size
        self.head = nn.Linear(features, 2 * config.latent_size)
        self.attribute_head = nn.Sequential(nn.Linear(features, 256), nn.SiLU(), nn.Linear(256, attribute_count))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the mean before the prior is taken off, the log-variance, and the attribute logits."""
        x = self.stem(F.pixel_unshuffle(image, 2))  # [N, C0, S/2, S/2]
        for block in self.blocks:
            x = block(x)
        x = F.silu(x).flatten(1)  # [N, C * s * s]
        mean, log_variance = self.head(x).float().chunk(2, dim=1)  # 2 x [N, Z]
        # Outside this range the variance no longer matters to the decoder, but exp() could overflow in fp16.
        return mean, log_variance.clamp(-10.0, 4.0), self.attribute_head(x).float()


class FiLM(nn.Module):
    """Feature-wise linear modulation (Perez et al. 2018) of a map f32 [N, C, H, W] by a condition f32 [N, D]."""

    def __init__(self, condition_size: int, channels: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(condition_size, 2 * channels)
        nn.init.normal_(self.modulation.weight, std=0.02)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)  # 2 x [N, C, 1, 1]
        return x * (1 + scale) + shift


class UpBlock(nn.Module):
    """Double the resolution: [N, C, H, W] -> [N, C', 2H, 2W]. The first convolution runs before the upsampling."""

    def __init__(self, inputs: int, outputs: int, condition_size: int) -> None:
        super().__init__()
        # One norm a block, before the upsampling where it is cheap, keeps the residual stream's scale in check.
        self.norm = nn.GroupNorm(_groups(inputs), inputs, affine=False)
        self.film1 = FiLM(condition_size, inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.film2 = FiLM(condition_size, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.film1(self.norm(x), condition)))
        x = F.interpolate(self.shortcut(x), scale_factor=2.0, mode="nearest")
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        return x + self.conv2(F.silu(self.film2(y, condition)))


class Decoder(nn.Module):
    """Total latent z f32 [N, Z] and attributes f32 [N, K] to a picture f32 [N, 3, S, S] in about -1..1."""

    def __init__(self, config: ModelConfig, image_size: int, attribute_count: int) -> None:
        super().__init__()
        channels = config.decoder_channels
        self.side = image_size >> len(channels)
        self.stem = nn.Linear(config.latent_size, channels[0] * self.side * self.side)
        self.condition = nn.Sequential(
            nn.Linear(config.latent_size + attribute_count, config.condition_size),
            nn.SiLU(),
            nn.Linear(config.condition_size, config.condition_size),
            nn.SiLU(),
        )
        self.blocks = nn.ModuleList(UpBlock(a, b, config.condition_size) for a, b in pairwise(channels))
        self.film = FiLM(config.condition_size, channels[-1])
        # Interpolation and then convolution: sub-pixel shuffles leave patterns of period two in adversarial training
        # (Odena et al. 2016). The narrow waist keeps the full resolution cheap.
        self.waist = nn.Conv2d(channels[-1], 16, 3, padding=1)
        self.detail = nn.Conv2d(16, 16, 3, padding=1)
        self.output = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, z: Tensor, attributes: Tensor) -> Tensor:
        condition = self.condition(torch.cat([z, attributes], dim=1))  # [N, condition_size]
        x = self.stem(z).unflatten(1, (-1, self.side, self.side))  # [N, C0, s, s]
        for block in self.blocks:
            x = block(x, condition)
        x = self.waist(F.silu(self.film(x, condition)))  # [N, 16, S/2, S/2]
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.output(F.silu(self.detail(F.silu(x)))).float()  # [N, 3, S, S]


class ConditionalVAE(nn.Module):
    """The whole model. `encode` gives residual latents; `decode` takes them with any attributes."""

    def __init__(self, config: ModelConfig, image_size: int, attribute_count: int) -> None:
        super().__init__()
        self.encoder = Encoder(config, image_size, attribute_count)
        self.decoder = Decoder(config, image_size, attribute_count)
        self.prior = nn.Linear(attribute_count, config.latent_size)
        # Calibration scales how far each attribute moves the latent. Encoder and decoder share it, so a reconstruction
        # does not change. Fitted after training (training.calibration), never by gradient.
        self.register_buffer("gain", torch.ones(attribute_count))

    def prior_mean(self, attributes: Tensor) -> Tensor:
        """Mean f32 [N, Z] of the conditional prior p(z|a) = N(W g a + b, I) for `attributes` f32 [N, K]."""
        return self.prior(attributes * self.gain)

    def encode(self, image: Tensor, attributes: Tensor) -> Posterior:
        """`image` f32 [N, 3, S, S] in -1..1, `attributes` f32 [N, K] with NaN where unknown."""
        mean, log_variance, logits = self.encoder(image)
        # The estimate is trained on labels alone: without the detach the decoder would bend it to carry pixels.
        known = fill_unknown(attributes, logits.detach())
        return Posterior(mean - self.prior_mean(known), log_variance, logits, known)

    def decode(self, latent: Tensor, attributes: Tensor) -> Tensor:
        """Residual `latent` f32 [N, Z] and `attributes` f32 [N, K] to a picture f32 [N, 3, S, S]."""
        return self.decoder(latent + self.prior_mean(attributes), attributes)


class Discriminator(nn.Module):
    """The moving opponent: real against edited, and which attributes a picture shows.

    f32 [N, 3, S, S] in -1..1 to realness logits f32 [N, 2 P] and attribute logits f32 [N, K]. Of the realness logits
    half belong to the P patches of the last layer but one (Isola et al. 2017), which see texture, and half repeat one
    for the whole face. Spectral normalisation (Miyato et al. 2018) bounds the trunk; the attribute head is free.
    """

    def __init__(self, channels: list[int], image_size: int, attribute_count: int) -> None:
        super().__init__()
        spectral = nn.utils.parametrizations.spectral_norm
        layers = [
            nn.Sequential(spectral(nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)), nn.LeakyReLU(0.2))
            for inputs, outputs in zip([3, *channels], channels, strict=False)
        ]
        self.trunk, self.top = nn.Sequential(*layers[:-1]), layers[-1]
        self.patches = spectral(nn.Conv2d(channels[-2], 1, 3, padding=1))
        side = image_size >> len(channels)
        features = channels[-1] * side * side
        self.realness = spectral(nn.Linear(features, 1))
        self.attributes = nn.Sequential(nn.Linear(features, 256), nn.LeakyReLU(0.2), nn.Linear(256, attribute_count))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.trunk(image)
        features = self.top(maps).flatten(1)
        patches = self.patches(maps).flatten(1).float()  # [N, P]
        whole = self.realness(features).float().expand_as(patches)
        return torch.cat([patches, whole], dim=1), self.attributes(features).float()
