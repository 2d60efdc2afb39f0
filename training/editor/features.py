"""Frozen ImageNet features: EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation and with ReLU6).

A critic on features of a trained network learns within minutes what one from scratch does not in hours (Projected GAN,
Sauer et al. 2021). The weights are those that Google published for TensorFlow, Apache-2.0 (training/networks.py).
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training import networks

# Kernel, stride, expansion, channels, repeats of each stage. The last two are never needed.
_STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3))
_TAPPED = (1, 2, 4)  # the stages whose outputs are features, at strides 4, 8 and 16
CHANNELS = tuple(_STAGES[stage][3] for stage in _TAPPED)
_BATCH_NORM_EPSILON = 1e-3


class Features(nn.Module):
    """Pictures f32 [N, 3, H, W] in -1..1 to features f32 [N, C, H/s, W/s] at strides s of 4, 8 and 16.

    Nothing in it is trained: batch norms are folded into the convolutions, gradients pass to the picture.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.stem = _Convolution(*_folded(weights, "_conv_stem", "_bn0"), stride=2)
        self.stages = nn.ModuleList()
        block = 0
        for _, stride, expansion, _, repeats in _STAGES:
            blocks = []
            for repeat in range(repeats):
                blocks.append(_Block(weights, f"_blocks.{block}", stride if repeat == 0 else 1, expansion > 1))
                block += 1
            self.stages.append(nn.Sequential(*blocks))
        self.requires_grad_(False)

    @staticmethod
    def load(directory: Path = networks.DIRECTORY) -> Features:
        """Those of the published weights. Raises networks.NetworkError if they are not in `directory`."""
        data = networks.EFFICIENTNET_LITE0.load(directory)
        return Features(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))

    def forward(self, image: Tensor, strides: tuple[int, ...] = (4, 8, 16)) -> list[Tensor]:
        x = image * (127.5 / 128) + (0.5 / 128)  # the network's own scale: (level - 127) / 128
        x = F.relu6(self.stem(x))
        found = []
        for number, stage in enumerate(self.stages[: _TAPPED[len(strides) - 1] + 1]):
            x = stage(x)
            if number in _TAPPED:
                found.append(x)
        return found


class _Convolution(nn.Module):
    """A convolution with TensorFlow's padding, which is one wider right and below where it cannot be even."""

    def __init__(self, weight: Tensor, bias: Tensor, stride: int = 1, depthwise: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last))
        self.bias = nn.Parameter(bias)
        self.stride, self.groups, self.kernel = stride, len(weight) if depthwise else 1, weight.shape[-1]

    def forward(self, x: Tensor) -> Tensor:
        total = self.kernel - self.stride  # for sizes that the stride divides
        padding: int = total // 2
        if total % 2:
            x, padding = F.pad(x, [total // 2, total - total // 2] * 2), 0
        if self.stride > 1 and self.groups > 1 and x.requires_grad and x.device.type == "cpu":
            # The gradient of a strided depthwise convolution is many times slower on a CPU than all of it unstrided.
            whole = F.conv2d(x, self.weight, self.bias, 1, padding, groups=self.groups)
            return whole[:, :, :: self.stride, :: self.stride]
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, groups=self.groups)


class _Block(nn.Module):
    """An inverted residual (Sandler et al. 2018): expand, filter each channel by itself, project."""

    def __init__(self, weights: dict[str, Tensor], name: str, stride: int, expanded: bool) -> None:
        super().__init__()
        self.expand = _Convolution(*_folded(weights, f"{name}._expand_conv", f"{name}._bn0")) if expanded else None
        filters = _folded(weights, f"{name}._depthwise_conv", f"{name}._bn1")
        self.depthwise = _Convolution(*filters, stride=stride, depthwise=True)
        self.project = _Convolution(*_folded(weights, f"{name}._project_conv", f"{name}._bn2"))
        inputs = (self.expand or self.depthwise).weight.shape[1 if expanded else 0]
        self.residual = stride == 1 and inputs == len(self.project.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.hardtanh_(self.expand(x), 0.0, 6.0)
        y = self.project(F.hardtanh_(self.depthwise(y), 0.0, 6.0))
        return x + y if self.residual else y


def _folded(weights: dict[str, Tensor], convolution: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what it and the batch norm after it do."""
    scale = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + _BATCH_NORM_EPSILON)
    bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    return weights[f"{convolution}.weight"] * scale[:, None, None, None], bias
