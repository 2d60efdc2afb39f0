"""Layers that more than one network uses."""

from __future__ import annotations

from torch import Tensor, nn


def group_count(channels: int) -> int:
    """How many groups a GroupNorm over so many channels has."""
    return next(g for g in (8, 4, 2, 1) if channels % g == 0)


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
