"""How the opponent looks at pictures: a random part of each, and for the robust classifier in other colours.

Original and edit of a picture are looked at in the same way, so that an edit that changes nothing costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import ViewsConfig
from training.noise import own_noise

_DEFAULT = ViewsConfig()
_CHUNKS = 8  # parts of a batch with a corner of their own


@dataclass(frozen=True)
class Views:
    """How each of N pictures is looked at; drawn for the global batch and then cut."""

    corners: Tensor  # int64 [N, 2], top and left of the part that is seen, the same for neighbours
    tint: Tensor  # f32 [N, 3], a factor for each colour
    brightness: Tensor  # f32 [N]
    grey: Tensor  # bool [N]
    noise: Tensor  # f32 [N], its standard deviation
    seeds: Tensor  # int64 [N], of each picture's own noise

    @staticmethod
    def draw(count: int, free: int, seed: int, config: ViewsConfig = _DEFAULT) -> Views:
        """Views of `count` pictures, on the CPU; `free` is the picture's side less that of the part."""
        generator = torch.Generator().manual_seed(seed)
        group = torch.arange(count) // -(-count // _CHUNKS)
        return Views(
            corners=torch.randint(0, free + 1, (_CHUNKS, 2), generator=generator)[group],
            tint=1 + config.tint * (2 * torch.rand(count, 3, generator=generator) - 1),
            brightness=config.brightness * (2 * torch.rand(count, generator=generator) - 1),
            grey=torch.rand(count, generator=generator) < config.grey,
            noise=torch.full((count,), config.noise),
            seeds=torch.randint(2**62, (count,), generator=generator),
        )

    def part(self, rows: slice) -> Views:
        return Views(*(value[rows] for value in vars(self).values()))


def crop(image: Tensor, views: Views, size: int) -> Tensor:
    """The part of each picture that is seen, f32 [N, 3, size, size]."""
    # One slice for each run of neighbours: indexing picture by picture would scatter in the backward pass.
    corners, start, parts = views.corners.tolist(), 0, []
    for stop in range(1, len(corners) + 1):
        if stop == len(corners) or corners[stop] != corners[start]:
            top, left = corners[start]
            parts.append(image[start:stop, :, top : top + size, left : left + size])
            start = stop
    return torch.cat(parts).contiguous(memory_format=torch.channels_last)


def degrade(image: Tensor, views: Views, size: int) -> Tensor:
    """Smaller, in other colours, some without any, and noisy: f32 [N, 3, H, H] to f32 [N, 3, size, size]."""
    if image.shape[-1] == 2 * size:
        image = F.avg_pool2d(image, 2)
    else:
        image = F.interpolate(image, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    tint, brightness = (value.to(image.device) for value in (views.tint, views.brightness))
    image = image * tint[:, :, None, None] + brightness[:, None, None, None]
    grey = views.grey.to(image.device)[:, None, None, None]
    image = torch.where(grey, image.mean(dim=1, keepdim=True), image)
    noise = views.noise[:, None, None, None] * own_noise(views.seeds, image.shape[1:])
    return image + noise.to(image.device)
