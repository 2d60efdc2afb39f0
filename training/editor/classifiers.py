"""The two classifiers that tell the editor whether an edit shows, both trained along with it on real pictures.

One works on the critic's frozen features and knows what an attribute looks like; it can be fooled by patterns that no
eye sees. The other withstands worst cases (training.adversarial), so its gradients look like the attribute itself
(Tsipras et al. 2019), but it is short-sighted. An edit has to convince both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.classifier import Classifier as RobustClassifier
from training.editor.features import CHANNELS

__all__ = ["FeatureClassifier", "RobustClassifier"]


class FeatureClassifier(nn.Module):
    """Frozen features at strides 8 and 16 of a square picture of side S, to attribute logits f32 [N, K]."""

    def __init__(self, image_size: int, attribute_count: int, width: int) -> None:
        super().__init__()
        _, fine, coarse = CHANNELS
        side = image_size // 16
        self.shrink = nn.Conv2d(fine, width, 3, stride=2, padding=1)
        self.mix = nn.Conv2d(width + coarse, width, 3, padding=1)
        self.head = nn.Sequential(
            nn.Linear(width * side * side, 2 * width), nn.LeakyReLU(0.2), nn.Linear(2 * width, attribute_count)
        )

    def forward(self, features: list[Tensor]) -> Tensor:
        _, fine, coarse = features
        x = torch.cat([F.leaky_relu(self.shrink(fine), 0.2), coarse], dim=1)  # [N, W + C, S/16, S/16]
        return self.head(F.leaky_relu(self.mix(x), 0.2).flatten(1)).float()
