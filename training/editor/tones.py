"""Pictures in darker tones, as faces of dark skin and rooms with little light have them. The data has few of either.

A power of the values on a scale of 0..1 leaves black and white where they are, and takes the skin of a light face to
that of a dark one: the mean colours of two such faces differ by exponents of 2 to 2.3 in all three channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from training.config import EditorDataConfig

_SPREAD = 0.1  # of the three channels' exponents around a picture's


def draw_exponents(count: int, seed: int, config: EditorDataConfig) -> Tensor:
    """Exponents of `count` pictures, f32 [N, 3] from 1 to `config.darkest`, all 1 where tones stay; on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    chosen, exponent = torch.rand(2, count, 1, generator=generator)
    channels = 1 + _SPREAD * (2 * torch.rand(count, 3, generator=generator) - 1)
    drawn = (torch.exp(math.log(config.darkest) * exponent) * channels).clamp(1, config.darkest)
    return torch.where(chosen < config.darker, drawn, 1.0)


def darken(image: Tensor, exponents: Tensor) -> Tensor:
    """`image` f32 [N, 3, S, S] in -1..1 in the tones of `exponents` f32 [N, 3]."""
    if (exponents == 1).all():
        return image
    return 2 * (0.5 * (image + 1)).clamp(min=0) ** exponents[:, :, None, None] - 1
