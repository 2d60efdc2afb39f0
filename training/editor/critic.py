"""The projected critic: does this look like a real face with these attributes? (Sauer et al. 2021)"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Critic(nn.Module):
    """Frozen features at several strides, f32 [N, C, H, W] each, to realness logits, f32 [N, P] for each of them.

    Every head judges patches (Isola et al. 2017), and adds to each of them how well the picture as a whole goes with
    its attributes f32 [N, K], as an inner product (projection, Miyato & Koyama 2018).
    """

    def __init__(self, channels: tuple[int, ...], attribute_count: int, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_Head(count, attribute_count, width) for count in channels)

    def forward(self, features: list[Tensor], attributes: Tensor) -> list[Tensor]:
        return [head(x, attributes) for head, x in zip(self.heads, features, strict=True)]


class _Head(nn.Module):
    def __init__(self, inputs: int, attribute_count: int, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(inputs, width, 1)
        self.down = nn.Conv2d(width, width, 4, stride=2, padding=1)
        self.patches = nn.Conv2d(width, 1, 3, padding=1)
        self.whole = nn.Linear(width, 1)
        self.projection = nn.Linear(attribute_count, width, bias=False)

    def forward(self, x: Tensor, attributes: Tensor) -> Tensor:
        x = F.leaky_relu(self.down(F.leaky_relu(self.mix(x), 0.2)), 0.2)  # [N, W, h, w]
        mean = x.mean(dim=(2, 3)).float()  # [N, W]
        whole = self.whole(mean).float() + (mean * self.projection(attributes).float()).sum(1, keepdim=True)  # [N, 1]
        return self.patches(x).flatten(1).float() + whole  # [N, h * w]


def hinge_critic(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """What the critic pays, averaged over its heads: 2 where it is blind, 0 where it is sure (Lim & Ye 2017)."""
    losses = [F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in zip(real, fake, strict=True)]
    return torch.stack(losses).mean()


def hinge_of_all(
    every: list[Critic],
    real: list[list[Tensor]],
    labels: Tensor,
    fake: list[list[Tensor]],
    fake_labels: Tensor,
) -> dict[str, Tensor]:
    """What each critic pays, that of the whole as `critic`, those of regions as `critic_0` and so on.

    `real` and `fake` are the features of the whole, then of each region; both kinds of labels are f32 [N, K].
    """
    names = ["critic", *(f"critic_{number}" for number in range(len(every) - 1))]
    return {
        name: hinge_critic(critic(a, labels), critic(b, fake_labels))
        for name, critic, a, b in zip(names, every, real, fake, strict=True)
    }


def hinge_editor(fake: list[Tensor]) -> Tensor:
    """What the editor pays, averaged over the critic's heads: minus the realness of its pictures (Lim & Ye 2017)."""
    return -torch.stack([logits.mean() for logits in fake]).mean()
