"""Between uint8 pixels, as they are stored and served, and the numbers networks work on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_model(pixels: np.ndarray, device: torch.device | str = "cpu") -> Tensor:
    """uint8 [N, H, W, 3] to f32 [N, 3, H, W] in -1..1."""
    # Memory-mapped pixels are read-only, which torch cannot express: `require` copies just those.
    tensor = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(device)
    return tensor.permute(0, 3, 1, 2).float().mul_(2 / 255).sub_(1).contiguous()


def to_pixels(image: Tensor) -> np.ndarray:
    """f32 [N, 3, H, W] in -1..1 to uint8 [N, H, W, 3], rounded and clipped."""
    return image.add(1).mul(127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()
