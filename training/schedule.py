"""How learning rates fall along a run."""

from __future__ import annotations

import math

import torch

from training.config import AdversarialTrainConfig


def cosine(progress: float) -> float:
    """1 at the start of a run, 0 at its end; `progress` is 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def follow_late_cosine(
    train: AdversarialTrainConfig,
    progress: float,
    optimiser: torch.optim.Optimizer,
    opponent_optimiser: torch.optim.Optimizer,
) -> None:
    """Full rates until the share `cosine_from` of a run is done, then along a cosine down to `final_learning_rate`.

    `progress` is 0 to 1.
    """
    late = max(0.0, progress - train.cosine_from) / max(1e-9, 1 - train.cosine_from)
    factor = train.final_learning_rate + (1 - train.final_learning_rate) * cosine(late)
    set_learning_rate(optimiser, train.learning_rate * factor)
    set_learning_rate(opponent_optimiser, train.opponent_learning_rate * factor)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """For all of its parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate
