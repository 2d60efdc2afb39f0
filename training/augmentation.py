"""Differentiable augmentation of whatever the opponent looks at (DiffAugment, Zhao et al. 2020).

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

_CHUNKS = 8
_SHIFT = 4
_BLUR_PROBABILITY = 0.3
_GREY_PROBABILITY = 0.3
_NOISE = 0.03


@dataclass(frozen=True)
class Looks:
    """What `augment` and `degrade` do to each of N pictures.

    They are drawn for the global batch and then cut, so that a picture is seen the same whoever computes it. Shift and
    blur are the same for a run of neighbours: they stay on the CPU, where they cut the batch into slices.
    """

    light: Tensor  # f32 [N, 3]: factors on saturation and contrast, and what is added
    tint: Tensor  # f32 [N, 3]: a factor for each colour
    grey: Tensor  # bool [N]
    shift: Tensor  # int64 [N, 2], down and right, from 0 to twice the largest
    blurred: Tensor  # bool [N]
    seeds: Tensor  # int64 [N], of each picture's own noise, so that nobody draws the noise of others

    @staticmethod
    def draw(count: int, generator: torch.Generator) -> Looks:
        """Looks for `count` pictures, on the CPU."""
        group = torch.arange(count) // -(-count // _CHUNKS)
        low, high = torch.tensor([0.7, 0.8, -0.15]), torch.tensor([1.3, 1.2, 0.15])
        return Looks(
            light=low + (high - low) * torch.rand(count, 3, generator=generator),
            tint=0.8 + 0.4 * torch.rand(count, 3, generator=generator),
            grey=torch.rand(count, generator=generator) < _GREY_PROBABILITY,
            shift=torch.randint(0, 2 * _SHIFT + 1, (_CHUNKS, 2), generator=generator)[group],
            blurred=(torch.rand(_CHUNKS, generator=generator) < _BLUR_PROBABILITY)[group],
            seeds=torch.randint(2**62, (count,), generator=generator),
        )

    def part(self, rows: slice) -> Looks:
        return Looks(*(value[rows] for value in vars(self).values()))

    def to(self, device: torch.device) -> Looks:
        moved = (value.to(device) for value in (self.light, self.tint, self.grey))
        return Looks(*moved, self.shift, self.blurred, self.seeds)


def own_noise(seeds: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal f32 [N, *shape] on the CPU, each row from its own of `seeds` int64 [N]."""
    generator, noise = torch.Generator(), torch.empty(len(seeds), *shape)
    for row, seed in zip(noise, seeds.tolist(), strict=True):
        torch.randn(shape, generator=generator.manual_seed(seed), out=row)
    return noise


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


def augment(image: Tensor, looks: Looks) -> Tensor:
    """Other lighting and place, for f32 [N, 3, S, S] in -1..1; same shape, gradients pass. Texture stays as it is."""
    return _shift(_colour(image, looks.light), looks.shift)


def degrade(image: Tensor, looks: Looks) -> Tensor:
    """Take away what an edit must not live on: some colour, some sharpness; f32 [N, 3, S, S] in and out.

    Without this, an edit may be a cast of colour or a pattern of pixels that scores and shows nothing.
    """
    image = _blur(_tint(image, looks.tint, looks.grey), looks.blurred)
    return image + _NOISE * own_noise(looks.seeds, image.shape[1:]).to(image.device)


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
        chunks.append(F.pad(image[rows], [_SHIFT] * 4, mode="reflect")[:, :, y : y + size, x : x + size])
    return torch.cat(chunks)


def _blur(image: Tensor, blurred: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 2.0, 1.0], device=image.device) / 4
    binomial = torch.outer(kernel, kernel).expand(3, 1, 3, 3)
    chunks = [
        F.conv2d(image[rows], binomial, padding=1, groups=3) if blur else image[rows]
        for blur, rows in _runs(blurred.tolist())
    ]
    return torch.cat(chunks)
