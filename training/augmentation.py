"""Differentiable augmentation of whatever the opponent looks at (DiffAugment, Zhao et al. 2020).

Real and edited pictures pass through the same transformations, so that an edit is only rewarded for features that
survive a shift, a blur, noise and other lighting; a pattern of pixels does not.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_CHUNKS = 8
_SHIFT = 4
_BLUR_PROBABILITY = 0.3
_GREY_PROBABILITY = 0.3


def reframe(image: Tensor, size: int, shift: Tensor, angle: Tensor, zoom: Tensor, mirrored: Tensor) -> Tensor:
    """Another framing for each face: f32 [N, 3, H, W] to f32 [N, 3, size, size] around the moved centre.

    `shift` f32 [N, 2] in pixels right and down, `angle` f32 [N] in radians, `zoom` f32 [N] as a factor, `mirrored`
    bool [N]. Bicubic; beyond the border, the picture is reflected.
    """
    side = image.shape[-1]
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    left_right = torch.where(mirrored, -1.0, 1.0)
    rows = [torch.stack([cosine * left_right, -sine], 1), torch.stack([sine * left_right, cosine], 1)]
    turned = torch.stack(rows, dim=1) * (size / side)  # [N, 2, 2]
    theta = torch.cat([turned, shift[:, :, None] * (2 / side)], dim=2)  # [N, 2, 3]
    grid = F.affine_grid(theta, [len(image), 3, size, size], align_corners=False)
    framed = F.grid_sample(image, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return framed.clamp(-1, 1)


def augment(image: Tensor, generator: torch.Generator) -> Tensor:
    """Other lighting and place, for f32 [N, 3, S, S] in -1..1; same shape, gradients pass. Texture stays as it is."""
    return _shift(_colour(image, generator), generator)


def degrade(image: Tensor, generator: torch.Generator) -> Tensor:
    """Take away what an edit must not live on: some colour, some sharpness; f32 [N, 3, S, S] in and out.

    Without this, an edit may be a cast of colour or a pattern of pixels that scores and shows nothing.
    """
    return _noise(_blur(_tint(image, generator), generator), generator)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator, like: Tensor) -> Tensor:
    return (torch.rand(shape, generator=generator) * (high - low) + low).to(like.device)


def _colour(image: Tensor, generator: torch.Generator) -> Tensor:
    shape = (image.shape[0], 1, 1, 1)
    grey = image.mean(dim=1, keepdim=True)  # [N, 1, S, S]
    image = grey + (image - grey) * _uniform(shape, 0.7, 1.3, generator, image)
    level = image.mean(dim=(1, 2, 3), keepdim=True)  # [N, 1, 1, 1]
    image = level + (image - level) * _uniform(shape, 0.8, 1.2, generator, image)
    return image + _uniform(shape, -0.15, 0.15, generator, image)


def _tint(image: Tensor, generator: torch.Generator) -> Tensor:
    """Another white balance for every picture, and no colour at all for some."""
    image = image * _uniform((image.shape[0], 3, 1, 1), 0.8, 1.2, generator, image)
    grey = (torch.rand(image.shape[0], 1, 1, 1, generator=generator) < _GREY_PROBABILITY).to(image.device)
    return torch.where(grey, image.mean(dim=1, keepdim=True), image)


def _shift(image: Tensor, generator: torch.Generator) -> Tensor:
    size, chunks = image.shape[-1], []
    # Advanced indexing per picture would need a scatter in the backward pass, many times slower than slices.
    for chunk in image.chunk(_CHUNKS):
        y, x = torch.randint(0, 2 * _SHIFT + 1, (2,), generator=generator).tolist()
        chunks.append(F.pad(chunk, [_SHIFT] * 4, mode="reflect")[:, :, y : y + size, x : x + size])
    return torch.cat(chunks)


def _blur(image: Tensor, generator: torch.Generator) -> Tensor:
    kernel = torch.tensor([1.0, 2.0, 1.0], device=image.device) / 4
    binomial = torch.outer(kernel, kernel).expand(3, 1, 3, 3)
    chunks = [
        F.conv2d(chunk, binomial, padding=1, groups=3)
        if torch.rand((), generator=generator) < _BLUR_PROBABILITY
        else chunk
        for chunk in image.chunk(_CHUNKS)
    ]
    return torch.cat(chunks)


def _noise(image: Tensor, generator: torch.Generator) -> Tensor:
    return image + 0.03 * torch.randn(image.shape, generator=generator).to(image.device)
