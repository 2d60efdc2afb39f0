"""Running averages over training, for each value of each attribute."""

from __future__ import annotations

import torch
from torch import Tensor

from training import distributed

_RATE = 0.01  # for each number that comes in


class LabelAverage:
    """`values` f32 [2, K] on the CPU: row 0 averages over faces without an attribute, row 1 over those with it.

    They begin as `start` f32 [2]. Every process may bring numbers of its own; all come to the same averages.
    """

    def __init__(self, attribute_count: int, start: tuple[float, float]) -> None:
        self.values = torch.tensor(start)[:, None].repeat(1, attribute_count)

    def update(self, labels: Tensor, numbers: Tensor, counted: Tensor) -> None:
        """Take in `numbers` f32 [N, K] of faces with `labels` f32 [N, K] in {-1, +1} where bool [N, K] `counted`."""
        rows = torch.stack([counted & (labels < 0), counted & (labels > 0)]).float()  # [2, N, K]
        sums = torch.stack([rows.sum(1), (rows * numbers.detach().float()).sum(1)])  # [2, 2, K]
        count, total = (distributed.average(sums) * distributed.world()).cpu()  # 2 x [2, K]
        step = 1.0 - (1.0 - _RATE) ** count
        self.values += step * (total / count.clamp(min=1.0) - self.values)

    def of(self, labels: Tensor) -> Tensor:
        """Each face's averages by its own labels f32 [N, K]; f32 [N, K]."""
        return torch.where(labels > 0, self.values[1], self.values[0])
