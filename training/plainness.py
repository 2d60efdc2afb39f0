"""How plainly real faces show their attributes, so that edits aim for that and not far beyond."""

from __future__ import annotations

import torch
from torch import Tensor

from training.averages import LabelAverage


class Plainness:
    """A running average of the classifier's logits on real faces, by attribute and label.

    What a fixed target would ask of a rare attribute, few real faces show: answered, it is a caricature. `margin`, in
    logits, is how much plainer than on the average real face an edit should be.
    """

    def __init__(self, attribute_count: int, margin: float) -> None:
        self._margin = torch.tensor([[-margin], [margin]])
        self.logits = LabelAverage(attribute_count, start=(-2.0, 2.0))

    def update(self, labels: Tensor, logits: Tensor) -> None:
        """Learn from real faces with `labels` f32 [N, K] in {-1, +1} that look like `logits` f32 [N, K]."""
        self.logits.update(labels, logits, torch.ones_like(labels, dtype=torch.bool))

    def of(self, asked: Tensor) -> Tensor:
        """How attributes f32 [N, K], -1 to 1, should look to the classifier, on the same scale; f32 [N, K]."""
        absent, present = (2 * torch.sigmoid(self.logits.values + self._margin) - 1).to(asked.device)  # 2 x [K]
        return absent + 0.5 * (asked.clamp(-1, 1) + 1) * (present - absent)
