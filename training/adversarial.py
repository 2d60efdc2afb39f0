"""Worst cases: pictures moved to where a classifier fails."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def worst_case(
    classifier: nn.Module, image: Tensor, loss: Callable[[Tensor], Tensor], radius: Tensor
) -> tuple[Tensor, Tensor]:
    """Each picture moved by its `radius` f32 [N] (L2 over f32 [3, S, S]) to where its logits lose more, in one step.

    The logits f32 [N, K] that come second are those before the move.

    A classifier that withstands this has gradients that look like the attribute itself (Tsipras et al. 2019), so an
    edit that follows them draws a feature and not a pattern that happens to score.
    """
    probe = image.detach().requires_grad_()
    logits = classifier(probe)
    (gradient,) = torch.autograd.grad(loss(logits), probe)
    length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
    return (image + (radius / length)[:, None, None, None] * gradient).detach(), logits.detach()
