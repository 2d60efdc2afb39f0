"""Random weights shaped like EfficientNet-Lite0's, and a configuration of the editor that trains in milliseconds."""

from __future__ import annotations

import torch

from training.config import EditorConfig, parse
from training.editor.features import _STAGES, Features

NAMES = ["Bald", "Bangs", "Black_Hair", "Blond_Hair", "Male", "Mustache", "No_Beard", "Smiling"]
KEPT = ["Wearing_Hat", "Wearing_Lipstick"]


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """By the names of the published file, batch norms among them."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, torch.Tensor] = {}

    def convolution(name: str, outputs: int, inputs: int, kernel: int) -> None:
        size = (2 / (inputs * kernel**2)) ** 0.5
        found[f"{name}.weight"] = size * torch.randn(outputs, inputs, kernel, kernel, generator=generator)

    def norm(name: str, channels: int) -> None:
        found[f"{name}.weight"] = 0.5 + torch.rand(channels, generator=generator)
        found[f"{name}.bias"] = 0.1 * torch.randn(channels, generator=generator)
        found[f"{name}.running_mean"] = 0.1 * torch.randn(channels, generator=generator)
        found[f"{name}.running_var"] = 0.5 + torch.rand(channels, generator=generator)

    convolution("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    inputs, block = 32, 0
    for kernel, _, expansion, outputs, repeats in _STAGES:
        for _ in range(repeats):
            name, width = f"_blocks.{block}", inputs * expansion
            if expansion > 1:
                convolution(f"{name}._expand_conv", width, inputs, 1)
                norm(f"{name}._bn0", width)
            convolution(f"{name}._depthwise_conv", width, 1, kernel)
            norm(f"{name}._bn1", width)
            convolution(f"{name}._project_conv", outputs, width, 1)
            norm(f"{name}._bn2", outputs)
            inputs, block = outputs, block + 1
    return found


def features() -> Features:
    return Features(weights())


def config(**sections: dict) -> EditorConfig:
    """A tiny editor; `sections` overrides keys, section by section."""
    values = {
        "stage": "editor",
        "name": "tiny",
        "data": {"attributes": NAMES, "kept": KEPT, "image_size": 32, "margin": 4},
        "model": {"channels": [8, 8, 8], "detail_channels": 8, "condition_size": 8},
        "opponent": {
            "critic_width": 8,
            "classifier_width": 8,
            "crop": 32,
            "robust_size": 16,
            "robust_channels": [8, 8],
            "head_start_steps": 2,
        },
        "train": {"steps": 8, "batch_size": 8, "validate_every": 4, "precision": "fp32"},
    }
    for section, changes in sections.items():
        values[section] = values.get(section, {}) | changes
    return parse(values)
