"""The conditional beta-VAE: an encoder, a conditional prior, and a FiLM-conditioned residual decoder.

The posterior mean splits into what the attributes explain and what they do not, and the decoder is told the attributes
anew, by a shift of its own and by modulation:

    mean(x) = W a + b + r        decoder input z = r + V a' + c,  FiLM(z, a')

with a the attributes as given, else the encoder's own estimates of them. So a conditional prior N(W a + b, I) on the
posterior is a standard normal prior on the residual r, what Facet calls `latent`, and changing a to a' moves z by
V (a' - a). A gain g, one number for each attribute, makes that V g (a' - a); it is 1 in training and calibrated
afterwards.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.classifier import Classifier, halvings
from training.config import ModelConfig
from training.layers import FiLM, group_count


class Posterior(NamedTuple):
    """`mean` f32 [N, Z] and `log_variance` f32 [N, Z] of the residual latent; `attribute_logits` f32 [N, K]."""

    mean: Tensor
    log_variance: Tensor
    attribute_logits: Tensor
    attributes: Tensor  # f32 [N, K], as given, else estimated


def latent_size(config: ModelConfig, image_size: int) -> int:
    """Z: the values without a place, then those of the map."""
    return config.global_size + config.map_channels * (2 * (image_size >> len(config.encoder_channels))) ** 2


def reparameterise(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A sample mean + sigma * noise, all f32 [N, Z] (Kingma & Welling 2014, section 2.4)."""
    return mean + torch.exp(0.5 * log_variance) * noise


class DownBlock(nn.Module):
    """Halve the resolution, then refine: [N, C, H, W] -> [N, C', H/2, W/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(group_count(outputs), outputs)
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
        self.head = nn.Linear(features, 2 * config.global_size)
        self.map_head = nn.Conv2d(channels[-2], 2 * config.map_channels, 3, padding=1)
        self.attribute_head = nn.Sequential(nn.Linear(features, 256), nn.SiLU(), nn.Linear(256, attribute_count))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the mean before the prior is taken off, the log-variance, and the attribute logits."""
        x = self.stem(F.pixel_unshuffle(image, 2))  # [N, C0, S/2, S/2]
        *others, last = self.blocks
        for block in others:
            x = block(x)
        places = self.map_head(F.silu(x)).float().chunk(2, dim=1)  # 2 x [N, M, 2s, 2s]
        x = F.silu(last(x)).flatten(1)  # [N, C * s * s]
        whole = self.head(x).float().chunk(2, dim=1)  # 2 x [N, G]
        mean, log_variance = (torch.cat([a, b.flatten(1)], dim=1) for a, b in zip(whole, places, strict=True))
        # Outside this range the variance no longer matters to the decoder, but exp() could overflow in fp16.
        return mean, log_variance.clamp(-10.0, 4.0), self.attribute_head(x).float()


class UpBlock(nn.Module):
    """Double the resolution: [N, C, H, W] -> [N, C', 2H, 2W]. The first convolution runs before the upsampling."""

    def __init__(self, inputs: int, outputs: int, condition_size: int) -> None:
        super().__init__()
        # One norm a block, before the upsampling where it is cheap, keeps the residual stream's scale in check.
        self.norm = nn.GroupNorm(group_count(inputs), inputs, affine=False)
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


class _BilinearOutput(nn.Module):
    """Features f32 [N, C, S/2, S/2] to a picture f32 [N, 3, S, S], drawn at full size from interpolated features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        # The narrow waist keeps the full resolution cheap.
        self.waist = nn.Conv2d(channels, 16, 3, padding=1)
        self.detail = nn.Conv2d(16, 16, 3, padding=1)
        self.colours = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = _double(self.waist(x))  # [N, 16, S, S]
        # Rectified, since SiLU's backward pass at full resolution costs a tenth of a training step on a CPU.
        return self.colours(F.relu(self.detail(F.relu(x))))


class _ShuffledOutput(nn.Module):
    """The same, with all of the work at half of the size: smooth colours are interpolated, detail is shuffled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detail = nn.Conv2d(channels, channels, 3, padding=1)
        self.smooth = nn.Conv2d(channels, 3, 3, padding=1)
        self.sharp = nn.Conv2d(channels, 12, 3, padding=1)
        with torch.no_grad():  # one filter for the four pixels of a shuffle, against grids (Aitken et al. 2017)
            self.sharp.weight.copy_(self.sharp.weight[::4].repeat_interleave(4, dim=0))
            self.sharp.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.detail(x))  # [N, C, S/2, S/2]
        return _double(self.smooth(x)) + F.pixel_shuffle(self.sharp(x), 2)


class Decoder(nn.Module):
    """Total latent z f32 [N, Z] and attributes f32 [N, K] to a picture f32 [N, 3, S, S] in about -1..1."""

    def __init__(self, config: ModelConfig, image_size: int, attribute_count: int) -> None:
        super().__init__()
        channels = config.decoder_channels
        self.side = image_size >> len(channels)
        self.global_size, self.map_channels = config.global_size, config.map_channels
        self.stem = nn.Linear(config.global_size, channels[0] * self.side * self.side)
        self.places = nn.Conv2d(config.map_channels, channels[1], 3, padding=1)
        self.condition = nn.Sequential(
            nn.Linear(config.global_size + attribute_count, config.condition_size),
            nn.SiLU(),
            nn.Linear(config.condition_size, config.condition_size),
            nn.SiLU(),
        )
        self.blocks = nn.ModuleList(UpBlock(a, b, config.condition_size) for a, b in pairwise(channels))
        self.film = FiLM(config.condition_size, channels[-1])
        self.output = _BilinearOutput(channels[-1]) if config.output == "bilinear" else _ShuffledOutput(channels[-1])

    def forward(self, z: Tensor, attributes: Tensor) -> Tensor:
        whole, places = z[:, : self.global_size], z[:, self.global_size :]  # [N, G], [N, M * 2s * 2s]
        condition = self.condition(torch.cat([whole, attributes], dim=1))  # [N, condition_size]
        x = self.stem(whole).unflatten(1, (-1, self.side, self.side))  # [N, C0, s, s]
        first, *others = self.blocks
        x = first(x, condition)  # [N, C1, 2s, 2s]
        x = x + self.places(places.unflatten(1, (self.map_channels, 2 * self.side, 2 * self.side)))
        for block in others:
            x = block(x, condition)
        return self.output(F.silu(self.film(x, condition))).float()  # [N, 3, S, S]


class ConditionalVAE(nn.Module):
    """The whole model. `encode` gives residual latents; `decode` takes them with any attributes."""

    def __init__(self, config: ModelConfig, image_size: int, attribute_count: int) -> None:
        super().__init__()
        self.latent_size = latent_size(config, image_size)
        self.encoder = Encoder(config, image_size, attribute_count)
        self.decoder = Decoder(config, image_size, attribute_count)
        # Apart from each other: W only has to take off what the KL term would charge for, V is as long a step as edits
        # need. One matrix for both is pulled two ways, and the latent keeps what the two disagree about.
        self.prior = nn.Linear(attribute_count, self.latent_size)
        self.shift = nn.Linear(attribute_count, self.latent_size)
        # How far an edit moves the latent, for each attribute. Fitted after training (training.vae.calibration).
        self.register_buffer("gain", torch.ones(attribute_count))

    def encode(self, image: Tensor, attributes: Tensor) -> Posterior:
        """`image` f32 [N, 3, S, S] in -1..1, `attributes` f32 [N, K] with NaN where unknown."""
        mean, log_variance, logits = self.encoder(image)
        # The estimate is trained on labels alone: without the detach the decoder would bend it to carry pixels.
        estimates = torch.tanh(0.5 * logits.detach())
        known = torch.where(torch.isnan(attributes), estimates, attributes)
        return Posterior(mean - self.explained(known), log_variance, logits, known)

    def explained(self, attributes: Tensor) -> Tensor:
        """What `encode` takes off the posterior mean for attributes f32 [N, K]; f32 [N, Z].

        It comes back in `decode`, so that neither given attributes nor an erasure, which makes W and V longer steps,
        move the reconstruction. And what a gain other than 1 changes there, the latent takes back.
        """
        return (self.prior(attributes) - self._shift((1 - self.gain) * attributes)).float()

    def _shift(self, change: Tensor) -> Tensor:
        """V times a change of attributes f32 [N, K]; f32 [N, Z]."""
        return F.linear(change, self.shift.weight)

    def decode(self, latent: Tensor, attributes: Tensor) -> Tensor:
        """Residual `latent` f32 [N, Z] and `attributes` f32 [N, K] to a picture f32 [N, 3, S, S]."""
        return self.decoder(latent + self.shift(self.gain * attributes).float(), attributes)


class Critic(nn.Module):
    """Half of the moving opponent: is this a picture, or something the decoder had a hand in?

    f32 [N, 3, S, S] in -1..1 to realness logits f32 [N, 2, 2 P]. The first of the two tells pictures from raw decodes,
    the second from residual edits: one for both would see that decodes are blurred and be content. Half of the logits
    belong to the P patches of the last layer but one (Isola et al. 2017), which see texture, half repeat one for the
    whole face.
    """

    def __init__(self, channels: list[int], image_size: int) -> None:
        super().__init__()
        self.trunk = halvings(channels[:-1])
        self.top = nn.Sequential(nn.Conv2d(channels[-2], channels[-1], 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        self.patches = nn.Conv2d(channels[-2], 2, 3, padding=1)
        self.whole = nn.Linear(channels[-1] * (image_size >> len(channels)) ** 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.trunk(image)
        patches = self.patches(maps).flatten(2).float()  # [N, 2, P]
        whole = self.whole(self.top(maps).flatten(1)).float()[:, :, None]  # [N, 2, 1]
        return torch.cat([patches, whole.expand_as(patches)], dim=2)


class Opponent(nn.Module):
    """Critic and classifier, trained along with the model and never exported."""

    def __init__(self, channels: list[int], image_size: int, attribute_count: int) -> None:
        super().__init__()
        self.critic = Critic(channels, image_size)
        self.classifier = Classifier(channels, image_size, attribute_count)
