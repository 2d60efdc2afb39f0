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

from training import distributed
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
        x, y = _double(self.shortcut(x)), _double(y)
        return x + self.conv2(F.silu(self.film2(y, condition)))


def _double(x: Tensor) -> Tensor:
    """Interpolate, as repeated or shuffled pixels leave grids in adversarial training (Odena et al. 2016)."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


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
        # The narrow waist keeps the full resolution cheap.
        self.waist = nn.Conv2d(channels[-1], 16, 3, padding=1)
        self.detail = nn.Conv2d(16, 16, 3, padding=1)
        self.output = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, z: Tensor, attributes: Tensor) -> Tensor:
        condition = self.condition(torch.cat([z, attributes], dim=1))  # [N, condition_size]
        x = self.stem(z).unflatten(1, (-1, self.side, self.side))  # [N, C0, s, s]
        for block in self.blocks:
            x = block(x, condition)
        x = self.waist(F.silu(self.film(x, condition)))  # [N, 16, S/2, S/2]
        x = _double(x)
        # Rectified, since SiLU's backward pass at full resolution costs a tenth of a training step on a CPU.
        return self.output(F.relu(self.detail(F.relu(x)))).float()  # [N, 3, S, S]


class ConditionalPrior(nn.Module):
    """p(z|a) = N(W g a + b, I): what the attributes explain of a posterior mean, linearly.

    W and b are no free parameters but the ridge regression of the means on the attributes, from moments that `observe`
    averages over recent batches. Whatever the losses want, a linear probe finds next to nothing in what is left
    (closed-form erasure, as in Belrose et al. 2023), and an edit moves the latent as far as real faces differ.
    """

    DECAY = 0.99  # of the moments: with 64 pictures a batch, they remember some 6,400
    RIDGE = 1e-3

    def __init__(self, attribute_count: int, latent_size: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(latent_size, attribute_count))
        self.register_buffer("bias", torch.zeros(latent_size))
        self.register_buffer("second", torch.zeros(attribute_count + 1, attribute_count + 1))  # of [a, 1]
        self.register_buffer("cross", torch.zeros(attribute_count + 1, latent_size))  # of [a, 1] with the means
        # Calibration scales how far each attribute moves the latent. Encoder and decoder share it, so a reconstruction
        # does not change. Fitted after training (training.calibration), never in it.
        self.register_buffer("gain", torch.ones(attribute_count))

    def forward(self, attributes: Tensor) -> Tensor:
        """The prior's mean f32 [N, Z] for `attributes` f32 [N, K]."""
        with torch.autocast(attributes.device.type, enabled=False):
            return F.linear(attributes.float() * self.gain, self.weight, self.bias)

    @torch.no_grad()
    def observe(self, mean: Tensor, attributes: Tensor, decay: float = DECAY) -> None:
        """Take in a batch of posterior means f32 [N, Z], before the prior is taken off, with their attributes."""
        with torch.autocast(mean.device.type, enabled=False):
            design = F.pad(attributes.detach().float(), (0, 1), value=1.0)  # [N, K + 1]
            second = distributed.average(design.T @ design / len(design))
            cross = distributed.average(design.T @ mean.detach().float() / len(design))
            # The last entry of `second` counts: 1 once it has seen enough. Dividing by it undoes the start from zero.
            self.second.lerp_(second, 1 - decay)
            self.cross.lerp_(cross, 1 - decay)
            ridge = self.RIDGE * self.second[-1, -1] * torch.eye(len(second), device=second.device)
            fitted = torch.linalg.solve(self.second + ridge, self.cross)  # [K + 1, Z]
            self.weight.copy_(fitted[:-1].T)
            self.bias.copy_(fitted[-1])


class ConditionalVAE(nn.Module):
    """The whole model. `encode` gives residual latents; `decode` takes them with any attributes."""

    def __init__(self, config: ModelConfig, image_size: int, attribute_count: int) -> None:
        super().__init__()
        self.encoder = Encoder(config, image_size, attribute_count)
        self.decoder = Decoder(config, image_size, attribute_count)
        self.prior = ConditionalPrior(attribute_count, config.latent_size)

    def encode(self, image: Tensor, attributes: Tensor, observe: bool = False) -> Posterior:
        """`image` f32 [N, 3, S, S] in -1..1, `attributes` f32 [N, K] with NaN where unknown.

        With `observe`, the conditional prior takes the batch in first, as training does.
        """
        mean, log_variance, logits = self.encoder(image)
        # The estimate is trained on labels alone: without the detach the decoder would bend it to carry pixels.
        known = fill_unknown(attributes, logits.detach())
        if observe:
            # Against its own estimates, as photographs come without labels and should leave nothing behind either.
            self.prior.observe(mean, torch.tanh(0.5 * logits))
        return Posterior(mean - self.prior(known), log_variance, logits, known)

    def decode(self, latent: Tensor, attributes: Tensor) -> Tensor:
        """Residual `latent` f32 [N, Z] and `attributes` f32 [N, K] to a picture f32 [N, 3, S, S]."""
        return self.decoder(latent + self.prior(attributes), attributes)


def _halvings(channels: list[int]) -> nn.Sequential:
    """Strided convolutions of pictures f32 [N, 3, S, S], one for each entry: [N, channels[-1], S / 2^n, S / 2^n]."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([3, *channels]):
        convolution = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
        nn.init.kaiming_normal_(convolution.weight, a=0.2)  # PyTorch's default lets the signal fade layer by layer
        nn.init.zeros_(convolution.bias)
        layers += [convolution, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


class Critic(nn.Module):
    """Half of the moving opponent: is this a picture, or something the decoder had a hand in?

    f32 [N, 3, S, S] in -1..1 to realness logits f32 [N, 2, 2 P]. The first of the two tells pictures from raw decodes,
    the second from residual edits: one for both would see that decodes are blurred and be content. Half of the logits
    belong to the P patches of the last layer but one (Isola et al. 2017), which see texture, half repeat one for the
    whole face.
    """

    def __init__(self, channels: list[int], image_size: int) -> None:
        super().__init__()
        self.trunk = _halvings(channels[:-1])
        self.top = nn.Sequential(nn.Conv2d(channels[-2], channels[-1], 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.patches = nn.Conv2d(channels[-2], 2, 3, padding=1)
        self.whole = nn.Linear(channels[-1] * (image_size >> len(channels)) ** 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.trunk(image)
        patches = self.patches(maps).flatten(2).float()  # [N, 2, P]
        whole = self.whole(self.top(maps).flatten(1)).float()[:, :, None]  # [N, 2, 1]
        return torch.cat([patches, whole.expand_as(patches)], dim=2)


class Classifier(nn.Module):
    """The other half: f32 [N, 3, S, S] in -1..1 to attribute logits f32 [N, K].

    The two share nothing: a classifier that withstands worst cases unlearns the fine texture a critic lives on.
    """

    def __init__(self, channels: list[int], image_size: int, attribute_count: int) -> None:
        super().__init__()
        self.trunk = _halvings(channels)
        features = channels[-1] * (image_size >> len(channels)) ** 2
        self.head = nn.Sequential(nn.Linear(features, 256), nn.LeakyReLU(0.2), nn.Linear(256, attribute_count))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.trunk(image).flatten(1)).float()


class Opponent(nn.Module):
    """Critic and classifier, trained along with the model and never exported."""

    def __init__(self, channels: list[int], image_size: int, attribute_count: int) -> None:
        super().__init__()
        self.critic = Critic(channels, image_size)
        self.classifier = Classifier(channels, image_size, attribute_count)
