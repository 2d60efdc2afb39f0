"""Differentiable augmentation of whatever the opponent parameters at (DiffAugment, Zhao et al. 2020).

Real and edited pictures pass through the same transformations, so that an edit is only rewarded for features that
survive a shift, a blur, noise and other lighting; a pattern of pixels does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import OpponentConfig
from training.noise import own_noise

REFERENCE_SIZE = 64  # of the pictures that sizes in the configuration are for; they scale with other sizes
_CHUNKS = 8
_DEFAULT = OpponentConfig()


@dataclass(frozen=True)
class AugmentationParameters:
    """What `augment` and `degrade` do to each of N pictures.

    They are drawn for the global batch and then cut, so that a picture is seen the same whoever computes it. Shift and
    blur are the same for a run of neighbours: they stay on the CPU, where they cut the batch into slices.
    """

    light: Tensor  # f32 [N, 3]: factors on saturation and contrast, and what is added
    tint: Tensor  # f32 [N, 3]: a factor for each colour
    grey: Tensor  # bool [N]
    shift: Tensor  # int64 [N, 2], pixels down and right
    blurred: Tensor  # bool [N]
    noise: Tensor  # f32 [N], its standard deviation
    seeds: Tensor  # int64 [N], of each picture's own noise, so that nobody draws the noise of others

    @staticmethod
    def draw(
        count: int, generator: torch.Generator, config: OpponentConfig = _DEFAULT, image_size: int = REFERENCE_SIZE
    ) -> AugmentationParameters:
        """Parameters for `count` pictures of that size, on the CPU."""
        group = torch.arange(count) // -(-count // _CHUNKS)
        scale = image_size / REFERENCE_SIZE
        most = round(config.shift * scale)
        reach = torch.tensor([config.saturation, config.contrast, config.brightness])
        low, high = torch.tensor([1.0, 1.0, 0.0]) - reach, torch.tensor([1.0, 1.0, 0.0]) + reach
        return AugmentationParameters(
            light=low + (high - low) * torch.rand(count, 3, generator=generator),
            tint=1 + config.tint * (2 * torch.rand(count, 3, generator=generator) - 1),
            grey=torch.rand(count, generator=generator) < config.grey,
            shift=torch.randint(-most, most + 1, (_CHUNKS, 2), generator=generator)[group],
            blurred=(torch.rand(_CHUNKS, generator=generator) < config.blur)[group],
            noise=torch.full((count,), config.noise * scale),
            seeds=torch.randint(2**62, (count,), generator=generator),
        )

    def part(self, rows: slice) -> AugmentationParameters:
        return AugmentationParameters(*(value[rows] for value in vars(self).values()))

    def to(self, device: torch.device) -> AugmentationParameters:
        moved = (value.to(device) for value in (self.light, self.tint, self.grey))
        return AugmentationParameters(*moved, self.shift, self.blurred, self.noise, self.seeds)


def reframe(image: Tensor, size: int, shift: Tensor, angle: Tensor, zoom: Tensor, mirrored: Tensor) -> Tensor:
    """Another framing for each face: f32 [N, 3, H, W] to f32 [N, 3, size, size] around the moved centre.

    `shift` f32 [N, 2] in pixels right and down, `angle` f32 [N] in radians, `zoom` f32 [N] as a factor, `mirrored`
    bool [N]. Bicubic; beyond the border, the picture is reflected.
    """
    side = image.shape[-1]
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    left_right = torch.where(mirrored, -1.0, 1.0)
    rows = [torch.stack([cosine * left_right, -sine], 1), torch.stack([sine * left_right, cosine], 1)]
    turned = torch.stack(rows, dim=1) * (size / side)  # [N, 2, 2]
    theta = torch.cat([turned, shift[:, :, None] * (2 / side)], dim=2)  # [N, 2, 3]
    grid = F.affine_grid(theta, [len(image), 3, size, size], align_corners=False)
    framed = F.grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return framed.clamp(-1, 1)


def augment(image: Tensor, parameters: AugmentationParameters) -> Tensor:
    """Other lighting and place, for f32 [N, 3, S, S] in -1..1; same shape, gradients pass. Texture stays as it is."""
    return _shift(_colour(image, parameters.light), parameters.shift)


def degrade(image: Tensor, parameters: AugmentationParameters) -> Tensor:
    """Take away what an edit must not live on: some colour, some sharpness; f32 [N, 3, S, S] in and out.

    Without this, an edit may be a cast of colour or a pattern of pixels that scores and shows nothing.
    """
    image = _blur(_tint(image, parameters.tint, parameters.grey), parameters.blurred)
    noise = parameters.noise[:, None, None, None] * own_noise(parameters.seeds, image.shape[1:])
    return image + noise.to(image.device)


def _colour(image: Tensor, light: Tensor) -> Tensor:
    saturation, contrast, brightness = light[:, :, None, None, None].unbind(1)  # 3 x [N, 1, 1, 1]
    grey = image.mean(dim=1, keepdim=True)  # [N, 1, S, S]
    image = grey + (image - grey) * saturation
    level = image.mean(dim=(1, 2, 3), keepdim=True)  # [N, 1, 1, 1]
    return level + (image - level) * contrast + brightness


def _tint(image: Tensor, tint: Tensor, grey: Tensor) -> Tensor:
    """Another white balance for every picture, and no colour at all for some."""
    image = image * tint[:, :, None, None]
    return torch.where(grey[:, None, None, None], image.mean(dim=1, keepdim=True), image)


def _runs(values: list) -> Iterator[tuple[object, slice]]:
    """Each run of equal neighbours and where it is."""
    start = 0
    for value, run in groupby(values):
        stop = start + len(list(run))
        yield value, slice(start, stop)
        start = stop


def _shift(image: Tensor, shift: Tensor) -> Tensor:
    size, chunks = image.shape[-1], []
    # Advanced indexing per picture would need a scatter in the backward pass, many times slower than slices.
    for (y, x), rows in _runs(shift.tolist()):
        most = max(abs(y), abs(x))
        padded = F.pad(image[rows], [most] * 4, mode="reflect")
        chunks.append(padded[:, :, most + y : most + y + size, most + x : most + x + size])
    return torch.cat(chunks)


def _blur(image: Tensor, blurred: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 2.0, 1.0], device=image.device) / 4
    binomial = torch.outer(kernel, kernel).expand(3, 1, 3, 3)
    chunks = [
        F.conv2d(image[rows], binomial, padding=1, groups=3) if blur else image[rows]
        for blur, rows in _runs(blurred.tolist())
    ]
    return torch.cat(chunks)
