"""What every stage of training has in common: a step, its passes, averaged weights, and a state to go on from.

A stage (the VAE's in training/trainer.py, the editor's in training/editor/trainer.py) owns its networks and says what a
step is; training/run.py drives it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training import distributed
from training.config import Config, ConfigError, EditorConfig
from training.precision import autocast
from training.source import BatchLoader, Source


class Stage(ABC):
    """Construct, optionally `load_state`, then call `train_step` until `step` is `total_steps`."""

    def __init__(self, config: Config | EditorConfig, source: Source, device: torch.device) -> None:
        train = config.train
        if train.batch_size % distributed.world():
            raise ConfigError(
                f"train.batch_size = {train.batch_size}: must be a multiple of {distributed.world()} processes"
            )
        if len(source) < train.batch_size:
            raise ConfigError(f"train.batch_size = {train.batch_size}: there are only {len(source)} training pictures")
        self.config, self.source, self.device = config, source, device
        self.loader = BatchLoader(source, train.seed, train.batch_size)
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.step = 0
        torch.manual_seed(train.seed)  # the same initial weights in every process

    # -- what a stage says --------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def total_steps(self) -> int:
        """How many steps the run has."""

    @property
    @abstractmethod
    def validate_every(self) -> int:
        """Steps between validations."""

    @abstractmethod
    def train_step(self) -> dict[str, Tensor]:
        """Run step number `step` and advance; returns detached scalars, of this process's part of the batch.

        All randomness derives from the seed and the step's number, so a resumed run repeats what an uninterrupted one
        would have done.
        """

    @abstractmethod
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        """Figures of the averaged model on held-out pictures, and a sheet of edits, uint8 [H, W, 3]."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything that `load_state` needs to go on: tensors and plain values."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""

    def end_epoch(self) -> None:  # noqa: B027
        """Called after the last step of each epoch, by every process."""

    # -- what stages share --------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        return min(1.0, self.step / max(1, self.total_steps))

    def autocast(self) -> torch.autocast:
        return autocast(self.device, self.config.train.precision)

    def optimiser(self, module: nn.Module, rate: float) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            module.parameters(), lr=rate, betas=(0.5, 0.99), weight_decay=self.config.train.weight_decay
        )

    def passes(self) -> list[slice]:
        """How this process's part of the batch is cut so that each pass fits into memory."""
        part = self.loader.part
        count = part.stop - part.start
        most = min(count, self.config.train.micro_batch or count)
        return [slice(start, min(start + most, count)) for start in range(0, count, most)]

    def descend(
        self, module: nn.Module, optimiser: torch.optim.Optimizer, loss: Callable, passes: list[slice]
    ) -> tuple[dict[str, Tensor], Tensor, list]:
        """One step of `module` down `loss`, which takes the rows of a pass and returns a total, its parts and more.

        Returns the total as "loss" and its parts, averaged over the passes, the gradient's norm, and every "more".
        """
        optimiser.zero_grad(set_to_none=True)
        scalars, others = Counter(), []
        for rows in passes:
            with self.autocast():
                total, parts, more = loss(rows)
            share = (rows.stop - rows.start) / passes[-1].stop
            (share * total).backward()
            scalars.update({name: share * value.detach() for name, value in {"loss": total, **parts}.items()})
            others.append(more)
        distributed.average_gradients(module.parameters())
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), self.config.train.gradient_clip)
        # A step on a non-finite gradient would destroy the weights for good; all processes see the same norm.
        if torch.isfinite(norm):
            optimiser.step()
        return dict(scalars), norm, others

    @torch.no_grad()
    def average_weights(self, average: nn.Module, current: nn.Module) -> None:
        """Move the exponential moving average on, in place."""
        # A short horizon at the start, or the average would remember the random weights for a thousand steps.
        decay = min(self.config.train.ema_decay, (1 + self.step) / (10 + self.step))
        values, new = average.state_dict(), current.state_dict()  # buffers too: the prior moves with the rest
        torch._foreach_lerp_(list(values.values()), [new[name] for name in values], 1 - decay)


def cosine(progress: float) -> float:
    """1 at the start of a run, 0 at its end; `progress` is 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """For all of its parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate
