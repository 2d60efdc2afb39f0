"""Mixed precision where it is faster."""

from __future__ import annotations

import time
from functools import lru_cache

import torch


@lru_cache
def fast_bf16(device: torch.device) -> bool:
    """Whether bf16 beats fp32 there; a CPU with instructions for it is asked by timing a convolution both ways.

    Having the instructions says little: AMD's avx512_bf16 is half again as fast as fp32, Intel's without AMX slower.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if not (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()):
        return False  # emulated
    layer = torch.nn.Conv2d(96, 96, 3, padding=1).to(memory_format=torch.channels_last)
    image = torch.zeros(32, 96, 32, 32).to(memory_format=torch.channels_last)

    def seconds(enabled: bool) -> float:
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            layer(image).sum().backward()
        return time.perf_counter() - start

    with torch.enable_grad():  # whoever asks first may have turned gradients off
        times = [(seconds(False), seconds(True)) for _ in range(6)]
    single, mixed = (min(column) for column in zip(*times[1:], strict=True))
    return mixed < 0.9 * single


def autocast(device: torch.device, precision: str = "auto") -> torch.autocast:
    """Mixed precision in bf16 where asked for, or, with "auto", where it is faster."""
    enabled = precision == "bf16" or (precision == "auto" and fast_bf16(device))
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
