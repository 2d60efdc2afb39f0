"""Noise that does not depend on who else is in the batch."""

from __future__ import annotations

import torch
from torch import Tensor


def own_noise(seeds: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal f32 [N, *shape] on the CPU, each row from its own of `seeds` int64 [N]."""
    generator, noise = torch.Generator(), torch.empty(len(seeds), *shape)
    for row, seed in zip(noise, seeds.tolist(), strict=True):
        torch.randn(shape, generator=generator.manual_seed(seed), out=row)
    return noise
