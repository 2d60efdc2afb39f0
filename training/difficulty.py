"""Which edits still fail, so that training asks for those more often."""

from __future__ import annotations

import torch
from torch import Tensor

from training import distributed

_RATE = 0.01  # of the running average, for each edit seen
_FLOOR = 0.2  # an edit that never fails is asked for a sixth as often as one that always does


class Difficulty:
    """A running average of how little the classifier believes each edit, by direction and attribute.

    `disbelief` f32 [2, K] on the CPU, from 0 to 1; row 0 is for adding, row 1 for removing. All edits count as failing
    until they have been tried.
    """

    def __init__(self, attribute_count: int) -> None:
        self.disbelief = torch.ones(2, attribute_count)

    def of(self, labels: Tensor) -> Tensor:
        """How much to ask for each inversion on pictures with `labels` f32 [N, K] in {-1, +1}; f32 [N, K], above 0."""
        return _FLOOR + torch.where(labels > 0, self.disbelief[1], self.disbelief[0])

    def update(self, labels: Tensor, flips: Tensor, logits: Tensor) -> None:
        """Learn from edits that invert what `flips` bool [N, K] marks and look like `logits` f32 [N, K].

        Every process may bring edits of its own; all come to the same average.
        """
        disbelief = torch.sigmoid(logits.detach() * labels)  # [N, K], in the value that was to go
        asked = torch.stack([flips & (labels < 0), flips & (labels > 0)]).float()  # [2, N, K]
        sums = torch.stack([asked.sum(1), (asked * disbelief).sum(1)])  # [2, 2, K]
        count, total = (distributed.average(sums) * distributed.world()).cpu()  # 2 x [2, K]
        step = 1.0 - (1.0 - _RATE) ** count
        self.disbelief += step * (total / count.clamp(min=1.0) - self.disbelief)
