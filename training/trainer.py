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

from training import checkpoint, distributed, warm_start
from training.config import Config, ConfigError, EditorConfig
from training.data.source import BatchLoader, Source
from training.precision import autocast
from training.scalars import Interval, not_finite

LAST, BEST = "last.pt", "best.pt"
REPORT_EVERY = 50  # steps that a scalar is the mean of


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
    def total_steps(self) -> int:
        """How many steps the run has."""
        return self.config.train.steps

    @property
    def validate_every(self) -> int:
        """Steps between validations."""
        return self.config.train.validate_every

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
        """What `load_state` needs to go on beside networks and optimisers: tensors and plain values."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""

    @abstractmethod
    def trained(self) -> dict[str, nn.Module]:
        """The networks by the names that their weights have in a checkpoint."""

    @abstractmethod
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """By the names that their state has in a checkpoint, which end in "optimiser"."""

    def end_epoch(self) -> None:  # noqa: B027
        """Called after the last step of each epoch, by every process."""

    # -- what stages share --------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        return min(1.0, self.step / max(1, self.total_steps))

    def autocast(self) -> torch.autocast:
        return autocast(self.device, self.config.train.precision)

    def make_optimiser(self, module: nn.Module) -> torch.optim.AdamW:
        """For what a stage trains."""
        train = self.config.train
        return torch.optim.AdamW(
            module.parameters(), train.learning_rate, (train.beta1, train.beta2), weight_decay=train.weight_decay
        )

    def make_opponent_optimiser(self, opponent: nn.Module) -> torch.optim.AdamW:
        train = self.config.train
        betas = (train.opponent_beta1, train.beta2)
        return torch.optim.AdamW(
            opponent.parameters(), train.opponent_learning_rate, betas, weight_decay=train.weight_decay
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
        norm = self._clip(module)
        # A step on a non-finite gradient would destroy the weights for good; all processes see the same norm.
        if not torch.isfinite(norm):
            bad = not_finite(scalars)
            what = f"not finite: {', '.join(bad)}" if bad else "its losses are finite, their gradient is not"
            raise self.diverged(f"training the {type(module).__name__} diverged ({what})")
        optimiser.step()
        return dict(scalars), norm, others

    def _clip(self, module: nn.Module) -> Tensor:
        """Clip the gradients of a network; returns the norm of all of them before."""
        apart = module is self.trained().get("opponent") and self.config.train.clip_apart
        parts = [part for part in module.children() if [*part.parameters()]] if apart else [module]
        most = self.config.train.gradient_clip
        return torch.stack([nn.utils.clip_grad_norm_(part.parameters(), most) for part in parts]).norm()

    def diverged(self, what: str) -> DivergedError:
        """The error that ends the run, with what is left of it."""
        last = self.directory / LAST
        remedy = f"{last} is the last good checkpoint" if last.exists() else "there is no checkpoint yet"
        return DivergedError(
            f"step {self.step}: {what}; {remedy}; train.learning_rate or train.opponent_learning_rate may be too high"
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
        interval = Interval()
        with closing(bar), self._stop_on_signal():
            while self.step < self.total_steps:
                interval.add(self.train_step())
                bar.update()
                ended = self.step == self.total_steps
                stopping = distributed.any_process(self._stop_requested)
                if self.step % REPORT_EVERY == 0 or ended or stopping:
                    self._report(writer, bar, interval)
                    interval = Interval()
                epoch_ended = self.step % self.steps_per_epoch == 0
                if epoch_ended:
                    self.end_epoch()
                if ended or self.step % self.validate_every == 0:
                    self._validate(writer)
                due = time.monotonic() - saved_at > 60 * self.config.train.checkpoint_minutes
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
            **{name: part.state_dict() for name, part in {**self.trained(), **self.optimisers()}.items()},
            **self.state(),
            "config": self.config.model_dump(mode="json"),
            "step": self.step,
            "best_score": self.best_score,
            "epochs": self.step / self.steps_per_epoch,
            "data_sha256": self.source.digest(),
            "command": self.command,
        }
        if bad := checkpoint.not_finite(state):
            raise self.diverged(f"the weights diverged (not finite: {bad[0]})")
        checkpoint.save(self.directory / name, state)

    def resume(self, path: Path) -> list[str]:
        """Go on from a checkpoint of the same configuration and data. Raises CheckpointError otherwise.

        Returns what is another in the configuration and changes no result of the steps until then.
        """
        state = checkpoint.load(path)
        saved = checkpoint.config_of(state, path)
        before, now = (_values(each) for each in (saved, self.config))
        changes = {
            name: f"{name}: {before.get(name)!r} there, {now.get(name)!r} here"
            for name in before | now
            if before.get(name) != now.get(name)
        }
        if other := [change for name, change in changes.items() if name not in _CHANGES_NO_RESULT]:
            raise checkpoint.CheckpointError(f"{path}: was written by a different configuration; {other[0]}")
        there, here = state.get("data_sha256"), self.source.digest()
        if there != here:
            raise checkpoint.CheckpointError(
                f"{path}: was trained on other pictures or labels, of sha256 {there}; those here have {here}"
            )
        for name, module in self.trained().items():
            checkpoint.load_weights(module, state, name, path)
        for name, optimiser in self.optimisers().items():
            checkpoint.load_optimiser(optimiser, state, name, path)
        with checkpoint.damaged(path):
            self.load_state(state)
            self.step = state["step"]
        self.best_score = state.get("best_score", math.inf)
        return list(changes.values())

    def warm_start(self, path: Path) -> list[str]:
        """Begin with the weights of another run of this stage, or of a bundle; optimisers begin anew.

        Returns the names of what has no counterpart there, new attributes first. Raises CheckpointError, BundleError.
        """
        given = warm_start.read(path, self.config.stage, self.trained()["model"])
        data = self.config.data
        missing = [f"the attribute {name}" for name in data.attributes if name not in given.attributes]
        for part, module in self.trained().items():
            if part not in given.parts:
                missing.append(f"all of the {part}")
                continue
            names = (data.labels, given.labels) if part == "opponent" else (data.attributes, given.attributes)
            state, lacking = warm_start.fitted(module.state_dict(), given.parts[part], *names)
            module.load_state_dict(state)
            missing += [f"{part}.{name}" for name in lacking]
        return missing

    def _open_run(self) -> SummaryWriter | None:
        if distributed.rank() != 0:
            return None
        (self.directory / "samples").mkdir(parents=True, exist_ok=True)
        # Scalars written after the checkpoint we resume from would show twice; the one of that very step stays.
        return SummaryWriter(str(self.directory / "tensorboard"), purge_step=self.step + 1)

    def _report(self, writer: SummaryWriter | None, bar: tqdm, interval: Interval) -> None:
        values = {name: float(distributed.average(value)) for name, value in interval.means().items()}
        if writer is None:
            return
        rate = interval.steps_per_second * self.config.train.batch_size
        rates = {
            name.replace("optimiser", "learning_rate"): optimiser.param_groups[0]["lr"]
            for name, optimiser in self.optimisers().items()
        }
        for name, value in {**values, **rates, "images_per_second": rate}.items():
            writer.add_scalar(f"train/{name}", value, self.step)
        shown = " ".join(f"{name} {value:.3g}" for name, value in values.items())
        bar.set_postfix_str(f"{shown} {rate:.0f} images/s")

    def _validate(self, writer: SummaryWriter | None) -> None:
        # Only the writer validates; the others wait in the barrier, so that no rank runs ahead into a collective.
        if writer is not None:
            step = self.step
            values, sheet = self.validate()
            if bad := not_finite(values):
                raise self.diverged(f"validation diverged (not finite: {', '.join(bad)})")
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


# What may change when a run goes on, since no result of the steps until then depends on it. A longer run's learning
# rate follows the longer run's schedule from there on.
_CHANGES_NO_RESULT = {
    "name",
    "train.micro_batch",
    "train.checkpoint_minutes",
    "train.validate_every",
    "train.steps",
    "train.epochs",
}


def _values(config: Config | EditorConfig) -> dict[str, Any]:
    """All values of a configuration by section and key."""
    return {
        f"{section}.{key}" if key else section: value
        for section, values in config.model_dump().items()
        for key, value in (values.items() if isinstance(values, dict) else [("", values)])
    }
