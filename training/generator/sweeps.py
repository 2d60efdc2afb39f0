"""Attributes that move once a latent is drawn, as `sweep` moves those of a generated face."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moves:
    """For each of N samples, how far which attribute moves towards its opposite."""

    attribute: Tensor  # int64 [N]
    strength: Tensor  # f32 [N, 1], 0 to 1; 0 where nothing moves

    @staticmethod
    def draw(count: int, attribute_count: int, share: float, generator: torch.Generator) -> Moves:
        """`share` of the samples move, each by anything between nothing and all the way. On the CPU."""
        attribute = torch.randint(attribute_count, (count,), generator=generator)
        moving, strength = torch.rand(2, count, 1, generator=generator)
        return Moves(attribute, torch.where(moving < share, strength, 0.0))

    def part(self, rows: slice) -> Moves:
        return Moves(self.attribute[rows], self.strength[rows])

    def to(self, device: torch.device) -> Moves:
        return Moves(self.attribute.to(device), self.strength.to(device))

    def of(self, values: Tensor, labels: Tensor, exclusion: Tensor) -> Tensor:
        """`values` f32 [N, K], which may be the labels or estimates of them, after the moves.

        An attribute moves towards the opposite of its label in `labels` f32 [N, K]. What is added takes away what
        `exclusion` bool [K, K] marks in its row, by as much.
        """
        rows = torch.arange(len(values), device=values.device)
        target = -labels[rows, self.attribute]  # [N]
        aim = torch.where(exclusion[self.attribute] & (target > 0)[:, None], -1.0, values)
        aim[rows, self.attribute] = target
        return values.lerp(aim, self.strength)
