"""Which edits still fail, so that training asks for those more often."""

from __future__ import annotations

import torch
from torch import Tensor

from training.averages import LabelAverage


class Difficulty:
    """A running average of how little the classifier believes each edit, by attribute and by what is to go.

    All edits count as failing until they have been tried. With a `floor` of 0.2, an edit that never fails is chosen a
    sixth as often as one that always does.
    """

    def __init__(self, attribute_count: int, floor: float = 0.2) -> None:
        self._floor = floor
        self.disbelief = LabelAverage(attribute_count, start=(1.0, 1.0))

    def of(self, labels: Tensor) -> Tensor:
        """How much to ask for each inversion on pictures with `labels` f32 [N, K] in {-1, +1}; f32 [N, K], above 0."""
        return self._floor + self.disbelief.of(labels)

    def update(self, labels: Tensor, flips: Tensor, logits: Tensor) -> None:
        """Learn from edits that invert what `flips` bool [N, K] marks and look like `logits` f32 [N, K]."""
        self.disbelief.update(labels, torch.sigmoid(logits.detach() * labels), flips)
