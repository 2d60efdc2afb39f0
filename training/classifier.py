"""A classifier of attributes that is trained along with what it judges, by the VAE's and by the editor's opponent."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn


def halvings(channels: list[int]) -> nn.Sequential:
    """Strided convolutions of pictures f32 [N, 3, S, S], one for each entry: [N, channels[-1], S / 2^n, S / 2^n]."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([3, *channels]):
        convolution = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1)
        nn.init.kaiming_normal_(convolution.weight, a=0.2)  # PyTorch's default lets the signal fade layer by layer
        nn.init.zeros_(convolution.bias)
        layers += [convolution, nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers)


class Classifier(nn.Module):
    """Pictures f32 [N, 3, S, S] in -1..1 to attribute logits f32 [N, K].

    It shares nothing with a critic: one that withstands worst cases unlearns the fine texture that a critic lives on.
    """

    def __init__(self, channels: list[int], image_size: int, attribute_count: int) -> None:
        super().__init__()
        self.trunk = halvings(channels)
        features = channels[-1] * (image_size >> len(channels)) ** 2
        self.head = nn.Sequential(nn.Linear(features, 256), nn.LeakyReLU(0.2), nn.Linear(256, attribute_count))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.trunk(image).flatten(1)).float()
