"""The learned prior p(latent | attributes): a flow from Gaussian noise to the VAE's latents.

A network is trained to give the velocity at which noise becomes a latent along straight lines (flow matching, Lipman
et al. 2023; rectified flow, Liu et al. 2023). Samples follow that velocity in a few steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import FlowModelConfig

_FREQUENCIES = 32
_LARGEST_FREQUENCY = 64.0  # cycles over the whole way from noise to latent


def training_pair(latent: Tensor, noise: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """A point between `noise` and `latent` f32 [N, Z] at `time` f32 [N] in 0..1, and the velocity there, f32 [N, Z]."""
    return torch.lerp(noise, latent, time[:, None]), latent - noise


def logit_normal(normal: Tensor) -> Tensor:
    """Standard normal numbers as times in 0..1, more of them in the middle (Esser et al. 2024, section 3.1)."""
    return torch.sigmoid(normal)


class _Block(nn.Module):
    """A residual layer of f32 [N, W] that a condition f32 [N, D] scales and shifts."""

    def __init__(self, width: int, condition_size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(condition_size, 2 * width)
        self.expand = nn.Linear(width, width)
        self.project = nn.Linear(width, width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).chunk(2, dim=1)  # 2 x [N, W]
        return x + self.project(F.silu(self.expand(self.norm(x) * (1 + scale) + shift)))


class FlowPrior(nn.Module):
    """Noise and attributes to latents. The network works on standardised latents: `mean` and `scale` f32 [Z]."""

    def __init__(self, config: FlowModelConfig, latent_size: int, attribute_count: int) -> None:
        super().__init__()
        self.steps = config.steps
        width, condition = config.width, config.condition_size
        self.register_buffer("mean", torch.zeros(latent_size))
        self.register_buffer("scale", torch.ones(latent_size))
        self.register_buffer("frequencies", torch.logspace(0, math.log10(_LARGEST_FREQUENCY), _FREQUENCIES))
        self.condition = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES + attribute_count, condition),
            nn.SiLU(),
            nn.Linear(condition, condition),
            nn.SiLU(),
        )
        self.enter = nn.Linear(latent_size, width)
        self.blocks = nn.ModuleList(_Block(width, condition) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, latent_size)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def standardised(self, latent: Tensor) -> Tensor:
        """Latents f32 [N, Z] with about zero mean and unit variance in every dimension."""
        return (latent - self.mean) / self.scale

    def velocity(self, x: Tensor, time: Tensor, attributes: Tensor) -> Tensor:
        """The velocity at `x` f32 [N, Z] and `time` f32 [N], 0 for noise to 1 for latents; f32 [N, Z]."""
        angles = math.pi * time[:, None] * self.frequencies  # [N, F]
        condition = self.condition(torch.cat([angles.sin(), angles.cos(), attributes], dim=1))  # [N, D]
        h = self.enter(x)  # [N, W]
        for block in self.blocks:
            h = block(h, condition)
        return self.leave(self.norm(h))

    def forward(self, noise: Tensor, attributes: Tensor) -> Tensor:
        """Latents f32 [N, Z] from `noise` f32 [N, Z] and `attributes` f32 [N, K], by the midpoint method.

        Each of `steps` steps asks the network twice. Noise of less than unit variance gives more typical latents.
        """
        x, step = noise, 1.0 / self.steps
        for number in range(self.steps):
            start = torch.full_like(noise[:, 0], number * step)  # [N]
            middle = x + 0.5 * step * self.velocity(x, start, attributes)
            x = x + step * self.velocity(middle, start + 0.5 * step, attributes)
        return x * self.scale + self.mean
