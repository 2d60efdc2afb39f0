"""The training loop that every stage shares: steps, passes, averaged weights, checkpoints, validation, a clean stop.

The stages are `training.vae.trainer.VAETrainer` and `training.editor.trainer.EditorTrainer`: each owns its networks and
says what a step is.
"""

from __future__ import annotations

import math
import signal
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training import checkpoint, distributed
from training.config import Config, ConfigError, EditorConfig
from training.precision import autocast
from training.source import BatchLoader, Source

LAST, BEST = "last.pt", "best.pt"
_REPORT_EVERY = 50  # steps


class DivergedError(RuntimeError):
    """A run whose losses or gradients are no longer finite; the message names the step, the terms and what is left."""


class Trainer(ABC):
    """One run in `directory`: construct, optionally `resume`, then `fit`.

    `command` is what the checkpoint says it was made by.
    """

    def __init__(
        self, config: Config | EditorConfig, source: Source, directory: Path, device: torch.device, command: str = ""
    ) -> None:
        train = config.train
        if train.batch_size % distributed.world():
            raise ConfigError(
                f"train.batch_size = {train.batch_size}: must be a multiple of {distributed.world()} processes"
            )
        if len(source) < train.batch_size:
            raise ConfigError(f"train.batch_size = {train.batch_size}: there are only {len(source)} training pictures")
        self.config, self.source, self.device = config, source, device
        self.directory, self.command = Path(directory), command
        self.loader = BatchLoader(source, train.seed, train.batch_size)
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.step = 0
        self.best_score = math.inf
        self._stop_requested = False
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

    @property
    def sheet_name(self) -> str:
        """The name of this step's sheet, without its ending."""
        return f"step-{self.step:07d}"

    @abstractmethod
    def train_step(self) -> dict[str, Tensor]:
        """Run step number `step` and advance; returns detached scalars, of this process's part of the batch.

        All randomness derives from the seed and the step's number, so a resumed run repeats what an uninterrupted one
        would have done.
        """

    @abstractmethod
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        """Figures of the averaged model on held-out pictures, and a sheet of edits, uint8 [H, W, 3].

        The checkpoint with the lowest figure "score" is kept as BEST, if there is such a figure.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `load_state` needs to go on beside the networks' weights: tensors and plain values."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""

    @abstractmethod
    def trained(self) -> dict[str, nn.Module]:
        """The networks by the names that their weights have in a checkpoint."""

    def end_epoch(self) -> None:  # noqa: B027
        """Called after the last step of each epoch, by every process."""

    # -- what stages share --------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        return min(1.0, self.step / max(1, self.total_steps))

    def autocast(self) -> torch.autocast:
        return autocast(self.device, self.config.train.precision)

    def make_optimiser(self, module: nn.Module, rate: float, beta1: float = 0.5) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            module.parameters(), lr=rate, betas=(beta1, 0.99), weight_decay=self.config.train.weight_decay
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
        if not torch.isfinite(norm):
            raise self._diverged(module, scalars)
        optimiser.step()
        return dict(scalars), norm, others

    def _diverged(self, module: nn.Module, scalars: dict[str, Tensor]) -> DivergedError:
        bad = [name for name, value in scalars.items() if not torch.isfinite(value)]
        what = f"not finite: {', '.join(bad)}" if bad else "its losses are finite, their gradient is not"
        last = self.directory / LAST
        remedy = f"{last} is the last good checkpoint" if last.exists() else "there is no checkpoint yet"
        return DivergedError(
            f"step {self.step}: training the {type(module).__name__} diverged ({what}); {remedy}; "
            f"train.learning_rate or train.opponent_learning_rate may be too high"
        )

    @torch.no_grad()
    def average_weights(self, average: nn.Module, current: nn.Module) -> None:
        """Move the exponential moving average on, in place."""
        # A short horizon at the start, or the average would remember the random weights for a thousand steps.
        decay = min(self.config.train.ema_decay, (1 + self.step) / (10 + self.step))
        values, new = average.state_dict(), current.state_dict()  # buffers too: the prior moves with the rest
        torch._foreach_lerp_(list(values.values()), [new[name] for name in values], 1 - decay)

    # -- the run ------------------------------------------------------------------------------------------------

    def fit(self) -> bool:
        """Train to the last step. False if it was stopped before."""
        writer = self._open_run()
        bar = tqdm(
            total=self.total_steps,
            initial=self.step,
            unit="step",
            disable=distributed.rank() != 0,
            mininterval=1.0,
            dynamic_ncols=True,
        )
        saved_at = time.monotonic()
        window_start, window_step = time.monotonic(), self.step
        with closing(bar), self._stop_on_signal():
            while self.step < self.total_steps:
                scalars = self.train_step()
                bar.update()
                if self.step % _REPORT_EVERY == 0:
                    now = time.monotonic()
                    rate = (self.step - window_step) * self.config.train.batch_size / (now - window_start)
                    window_start, window_step = now, self.step
                    self._report(writer, bar, scalars, rate)
                ended = self.step == self.total_steps
                epoch_ended = self.step % self.steps_per_epoch == 0
                if epoch_ended:
                    self.end_epoch()
                if ended or self.step % self.validate_every == 0:
                    self._validate(writer)
                due = time.monotonic() - saved_at > 60 * self.config.train.checkpoint_minutes
                stopping = distributed.any_process(self._stop_requested)
                if distributed.any_process(due) or epoch_ended or ended or stopping:
                    self.save(LAST)
                    saved_at = time.monotonic()
                if stopping and not ended:
                    break
        if writer:
            writer.close()
        return self.step >= self.total_steps

    def save(self, name: str) -> None:
        """Write a checkpoint; only the first process does, all may call."""
        if distributed.rank() != 0:
            return
        state = {
            **{name: module.state_dict() for name, module in self.trained().items()},
            **self.state(),
            "config": self.config.model_dump(mode="json"),
            "step": self.step,
            "best_score": self.best_score,
            "epochs": self.step / self.steps_per_epoch,
            "data_sha256": self.source.digest(),
            "command": self.command,
        }
        checkpoint.save(self.directory / name, state)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same configuration and data. Raises CheckpointError otherwise."""
        state = checkpoint.load(path)
        saved = checkpoint.config_of(state, path)
        if _results(saved) != _results(self.config):
            raise checkpoint.CheckpointError(
                f"{path}: was written by a different configuration; {_first_change(saved, self.config)}"
            )
        if state["data_sha256"] != self.source.digest():
            raise checkpoint.CheckpointError(f"{path}: was trained on other pictures or labels")
        for name, module in self.trained().items():
            module.load_state_dict(state[name])
        self.load_state(state)
        self.step = state["step"]
        self.best_score = state.get("best_score", math.inf)

    def warm_start(self, path: Path) -> list[str]:
        """Begin with the weights of another run of this stage wherever name and shape agree; optimisers begin anew.

        Returns the names of what has no counterpart there. Raises CheckpointError.
        """
        state = checkpoint.load(path)
        saved = checkpoint.config_of(state, path)
        if saved.stage != self.config.stage:
            raise checkpoint.CheckpointError(
                f"{path}: is a checkpoint of the stage {saved.stage!r}, expected {self.config.stage!r}"
            )
        missing = []
        for part, module in self.trained().items():
            own = module.state_dict()
            found = {
                name: value for name, value in state[part].items() if name in own and own[name].shape == value.shape
            }
            module.load_state_dict(found, strict=False)
            missing += [f"{part}.{name}" for name in own if name not in found]
        return missing

    def _open_run(self) -> SummaryWriter | None:
        if distributed.rank() != 0:
            return None
        (self.directory / "samples").mkdir(parents=True, exist_ok=True)
        # Scalars written after the checkpoint we resume from would show twice; the one of that very step stays.
        return SummaryWriter(str(self.directory / "tensorboard"), purge_step=self.step + 1)

    def _report(self, writer: SummaryWriter | None, bar: tqdm, scalars: dict[str, Tensor], rate: float) -> None:
        values = {name: float(distributed.average(value)) for name, value in scalars.items()}
        if writer is None:
            return
        for name, value in values.items():
            writer.add_scalar(f"train/{name}", value, self.step)
        writer.add_scalar("train/images_per_second", rate, self.step)
        shown = " ".join(f"{name} {value:.3g}" for name, value in values.items())
        bar.set_postfix_str(f"{shown} {rate:.0f} images/s")

    def _validate(self, writer: SummaryWriter | None) -> None:
        # Only the writer validates; the others wait in the barrier, so that no rank runs ahead into a collective.
        if writer is not None:
            step = self.step
            values, sheet = self.validate()
            for name, value in values.items():
                writer.add_scalar(f"validation/{name}", value, step)
            shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
            tqdm.write(f"step {step}, epoch {step / self.steps_per_epoch:.2f}: validation {shown}")
            Image.fromarray(sheet).save(self.directory / "samples" / f"{self.sheet_name}.png")
            writer.add_image("validation/edits", sheet, step, dataformats="HWC")
            if values.get("score", math.inf) < self.best_score:
                self.best_score = values["score"]
                self.save(BEST)
        distributed.barrier()

    @contextmanager
    def _stop_on_signal(self) -> Iterator[None]:
        def request(*_: object) -> None:
            self._stop_requested = True

        previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


def cosine(progress: float) -> float:
    """1 at the start of a run, 0 at its end; `progress` is 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """For all of its parameters."""
    for group in optimiser.param_groups:
        group["lr"] = rate


# What may change when a run goes on, since no result of the steps until then depends on it.
_CHANGES_NO_RESULT = {"train": {"micro_batch", "checkpoint_minutes", "validate_every", "steps"}}


def _results(config: Config | EditorConfig) -> dict[str, Any]:
    """What results depend on."""
    return config.model_dump(exclude=_CHANGES_NO_RESULT)


def _first_change(old: Config | EditorConfig, new: Config | EditorConfig) -> str:
    before, after = _results(old), _results(new)
    for section, values in before.items():
        other = after.get(section)
        if values == other:
            continue
        if not isinstance(values, dict) or not isinstance(other, dict):
            return f"{section}: {values!r} there, {other!r} here"
        key = next(key for key in values | other if values.get(key) != other.get(key))
        return f"{section}.{key}: {values.get(key)!r} there, {other.get(key)!r} here"
    return "one of them has a section that the other lacks"
