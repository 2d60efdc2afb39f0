"""The editor: a U-Net from a face and a change of its attributes to edit fields (docs/training.md, "The editor").

It does not draw a picture but says what to do with one,

    edited = moved + mask * (gain * moved + residual),        moved(p) = picture(p + flow(p)),

so that the photograph's own detail survives: a mask keeps what is not edited (GANimation, Pumarola et al. 2018), a
gain carries the texture of skin and hair through a change of colour, flow moves what is there already (Dorta et al.
2020), and only what is new is drawn, as a residual.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.config import EditorModelConfig
from training.layers import FiLM, group_count

# An edit's mask is multiplied by sigmoid(2 l - 1) of the logit l of the person: 0.27 where both are as likely, since
# an edit of the background shows more than one that ends early.
_SURE, _DOUBT = 2.0, -1.0


class EditFields(NamedTuple):
    """What to do with a picture: `mask` f32 [N, 1, S, S] in 0..1, `gain` f32 [N, 3, S, S] in -1..1, `residual` f32
    [N, 3, S, S] in -1..1 of a picture in 0..1, and `flow` f32 [N, 2, S, S], offsets right and down in shares of the
    frame, 0 where the mask is 0. `person` f32 [N, 1, S, S] in logits is where the person is, if the editor says so."""

    mask: Tensor
    gain: Tensor
    residual: Tensor
    flow: Tensor
    person: Tensor | None = None


def apply_fields(image: Tensor, fields: EditFields) -> Tensor:
    """The edited picture, f32 [N, 3, S, S], of `image` f32 [N, 3, S, S] in 0..1; not clipped."""
    moved = warp(image, fields.flow)
    return moved + fields.mask * (fields.gain * moved + fields.residual)


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Take each pixel of f32 [N, 3, S, S] from where `flow` f32 [N, 2, S, S] points; beyond the border it repeats."""
    size = image.shape[-1]
    centres = (torch.arange(size, device=image.device, dtype=image.dtype) + 0.5) * (2 / size) - 1
    x = centres + 2 * flow[:, 0]  # [N, S, S]; grid_sample's coordinates run from -1 to 1
    y = centres[:, None] + 2 * flow[:, 1]
    # A run that diverges must end with an error, and grid_sample reads anywhere where a coordinate is not a number.
    grid = torch.stack([x, y], dim=-1).nan_to_num()
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, f32 [N, C, H, W] to [N, C', H, W]; FiLM where a condition is given."""

    def __init__(self, inputs: int, outputs: int, condition_size: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(group_count(inputs), inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(group_count(outputs), outputs)
        self.film = FiLM(condition_size, outputs) if condition_size else None
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.film is not None:
            y = self.film(y, condition)
        return self.shortcut(x) + self.conv2(F.silu(y))


class PersonFinder(nn.Module):
    """Where the person is, f32 [N, 1, S, S] in logits, of pictures f32 [N, 3, S, S] in -1..1.

    A small U-Net of its own: what is useful to edit a face says little about where hair ends and background begins. It
    learns from person masks alone, so that an editor that has learned to edit can get one without editing differently.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        first, second, third = width, 2 * width, 3 * width
        self.stem = nn.Conv2d(48, first, 3, padding=1)  # after pixel_unshuffle by 4
        self.down1 = ResidualBlock(first, first)
        self.shrink1 = nn.Conv2d(first, second, 3, stride=2, padding=1)
        self.down2 = ResidualBlock(second, second)
        self.shrink2 = nn.Conv2d(second, third, 3, stride=2, padding=1)
        self.middle = nn.Sequential(*(ResidualBlock(third, third) for _ in range(3)))
        self.grow2 = nn.Conv2d(third, second, 1)
        self.up2 = ResidualBlock(second, second)
        self.grow1 = nn.Conv2d(second, first, 1)
        self.up1 = ResidualBlock(first, first)
        # Edges are found at S / 2, where the masks are, on the picture again.
        self.edge_features = nn.Conv2d(first, first // 2, 1)
        self.edge_picture = nn.Conv2d(12, first // 2, 3, padding=1)  # after pixel_unshuffle by 2
        self.edge = nn.Conv2d(first // 2, first // 2, 3, padding=1)
        self.logits = nn.Conv2d(first // 2, 1, 3, padding=1)

    def forward(self, centred: Tensor) -> Tensor:
        fine = self.down1(self.stem(F.pixel_unshuffle(centred, 4)))  # [N, W, S/4, S/4]
        middle = self.down2(self.shrink1(fine))  # [N, 2 W, S/8, S/8]
        coarse = self.middle(self.shrink2(middle))  # [N, 3 W, S/16, S/16]
        middle = self.up2(middle + _double(self.grow2(coarse)))
        fine = self.up1(fine + _double(self.grow1(middle)))
        edge = _double(self.edge_features(F.silu(fine))) + self.edge_picture(F.pixel_unshuffle(centred, 2))
        return _double(self.logits(F.silu(self.edge(F.silu(edge)))).float())


class Editor(nn.Module):
    """`image` f32 [N, 3, S, S] in 0..1 and `change` f32 [N, K] in about -1..1 to edit fields.

    `change` is the share of the way that each attribute is to go: -1 takes it away, +1 adds it, and 0 leaves it. A
    change of zero gives a mask of zero.
    """

    def __init__(self, config: EditorModelConfig, image_size: int, attribute_count: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.max_flow, self.full_change = config.max_flow, config.full_change
        first, second, third = config.channels
        condition = config.condition_size
        self.condition = nn.Sequential(
            nn.Linear(attribute_count, condition), nn.SiLU(), nn.Linear(condition, condition), nn.SiLU()
        )
        self.stem = nn.Conv2d(48, first, 3, padding=1)  # after pixel_unshuffle by 4
        self.down1 = ResidualBlock(first, first)
        self.shrink1 = nn.Conv2d(first, second, 3, stride=2, padding=1)
        self.down2 = nn.ModuleList(ResidualBlock(second, second) for _ in range(2))
        self.shrink2 = nn.Conv2d(second, third, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(ResidualBlock(third, third, condition) for _ in range(3))
        self.grow2 = nn.Conv2d(third, second, 3, padding=1)
        self.up2 = nn.ModuleList(
            [ResidualBlock(2 * second, second, condition), ResidualBlock(second, second, condition)]
        )
        self.grow1 = nn.Conv2d(second, first, 3, padding=1)
        self.up1 = nn.ModuleList([ResidualBlock(2 * first, first, condition), ResidualBlock(first, first, condition)])
        # What is smooth comes from S / 4: a mask, three gains, a flow. What is sharp is drawn at S / 2, seeing the
        # picture again, and shuffled to S: a residual, and a correction of the mask.
        self.smooth = nn.Conv2d(first, 6, 3, padding=1)
        self.detail_features = nn.Conv2d(first, config.detail_channels, 3, padding=1)
        self.detail_picture = nn.Conv2d(12, config.detail_channels, 3, padding=1)  # after pixel_unshuffle by 2
        self.detail = nn.Conv2d(config.detail_channels, config.detail_channels, 3, padding=1)
        self.sharp = nn.Conv2d(config.detail_channels, 16, 3, padding=1)
        self.person = PersonFinder(config.person_channels) if config.person_channels else None
        self._start_small(config.mask_bias)

    @torch.no_grad()
    def _start_small(self, mask_bias: float) -> None:
        """Start with hardly any edit, and with one filter for the four pixels of a shuffle (Aitken et al. 2017)."""
        for head in (self.smooth, self.sharp):
            head.weight *= 0.1
            head.bias.zero_()
        self.smooth.bias[0] = mask_bias
        self.sharp.weight.copy_(self.sharp.weight[::4].repeat_interleave(4, dim=0))

    def find_person(self, image: Tensor) -> Tensor:
        """Where the person is, f32 [N, 1, S, S] in logits, of an editor that says so."""
        return self.person(2 * image - 1)

    def forward(self, image: Tensor, change: Tensor) -> EditFields:
        centred = 2 * image - 1
        condition = self.condition(change)  # [N, D]
        person = None if self.person is None else self.person(centred)  # [N, 1, S, S]
        fine = self.down1(self.stem(F.pixel_unshuffle(centred, 4)))  # [N, C1, S/4, S/4]
        middle = self.shrink1(fine)  # [N, C2, S/8, S/8]
        for block in self.down2:
            middle = block(middle)
        x = self.shrink2(middle)  # [N, C3, S/16, S/16]
        for block in self.middle:
            x = block(x, condition)
        x = torch.cat([_double(self.grow2(x)), middle], dim=1)  # [N, 2 C2, S/8, S/8]
        for block in self.up2:
            x = block(x, condition)
        x = torch.cat([_double(self.grow1(x)), fine], dim=1)  # [N, 2 C1, S/4, S/4]
        for block in self.up1:
            x = block(x, condition)
        x = F.silu(x)  # [N, C1, S/4, S/4]
        # The convolution before the doubling costs a quarter of one after it.
        y = _double(self.detail_features(x)) + self.detail_picture(F.pixel_unshuffle(centred, 2))
        y = F.silu(self.detail(F.silu(y)))  # [N, D, S/2, S/2]
        size = image.shape[-2:]
        smooth = F.interpolate(self.smooth(x).float(), size=size, mode="bilinear", align_corners=False)  # [N, 6, S, S]
        sharp = F.pixel_shuffle(self.sharp(y).float(), 2)  # [N, 4, S, S]
        return self._fields(smooth, sharp, change, person)

    def _fields(self, smooth: Tensor, sharp: Tensor, change: Tensor, person: Tensor | None) -> EditFields:
        present = (change.float().abs().amax(dim=1) / self.full_change).clamp(max=1.0)[
            :, None, None, None
        ]  # [N, 1, 1, 1]
        mask = torch.sigmoid(smooth[:, :1] + sharp[:, 3:]) * present
        if person is not None:  # What is behind a person stays. Masks teach where that is, edits do not.
            mask = mask * torch.sigmoid(_SURE * person.detach() + _DOUBT)
        # tanh of a slice that is not contiguous runs one value at a time on a CPU.
        gain, flow, residual = (
            torch.tanh(part.contiguous()) for part in (smooth[:, 1:4], smooth[:, 4:6], sharp[:, :3])
        )  # [N, 3, S, S], [N, 2, S, S], [N, 3, S, S]
        return EditFields(mask, gain, residual, self.max_flow * mask * flow, person)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
