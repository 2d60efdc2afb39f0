"""Target confidence: how sure a classifier is of real faces that have an attribute, which edits should reach.

A fixed target, the same for all attributes, asks of rare or faint ones what few real faces show, and an edit that
reaches it is a caricature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.averages import LabelAverage


class TargetConfidence:
    """A running average of one classifier's logits on real faces, by attribute and label.

    `margin`, in logits, is by how much an edit should outdo the average real face: a number, or f32 [2, K] for edits
    that remove and that add each of K attributes.
    """

    def __init__(self, attribute_count: int, margin: float | Tensor) -> None:
        self._margin = torch.tensor([[-1.0], [1.0]]) * margin
        self.logits = LabelAverage(attribute_count, start=(-2.0, 2.0))

    def update(self, labels: Tensor, logits: Tensor) -> None:
        """Learn from real faces with `labels` f32 [N, K] in {-1, +1} and their `logits` f32 [N, K]."""
        self.logits.update(labels, logits, torch.ones_like(labels, dtype=torch.bool))

    def of(self, target: Tensor) -> Tensor:
        """The confidence to aim for, 2 p - 1, where attributes f32 [N, K] should be `target`, -1 to 1; f32 [N, K]."""
        absent, present = (2 * torch.sigmoid(self.logits.values + self._margin) - 1).to(target.device)  # 2 x [K]
        return absent + 0.5 * (target.clamp(-1, 1) + 1) * (present - absent)
