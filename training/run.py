"""A run: drives a stage to its last step, with checkpoints, scalars, sheets, resumption and a clean stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training import checkpoint, distributed
from training.config import Config, EditorConfig
from training.stage import Stage

LAST = "last.pt"
_REPORT_EVERY = 50  # steps


class Run:
    """One run of `stage` in `directory`: construct, optionally `resume`, then `fit`.

    `command` is what the checkpoint says it was made by.
    """

    def __init__(self, stage: Stage, directory: Path, command: str = "") -> None:
        self.stage, self.directory, self.command = stage, Path(directory), command
        self._stop_requested = False

    def fit(self) -> bool:
        """Train to the last step. False if it was stopped before."""
        stage = self.stage
        writer = self._open()
        bar = tqdm(
            total=stage.total_steps,
            initial=stage.step,
            unit="step",
            disable=distributed.rank() != 0,
            mininterval=1.0,
            dynamic_ncols=True,
        )
        saved_at = time.monotonic()
        window_start, window_step = time.monotonic(), stage.step
        with self._stop_on_signal():
            while stage.step < stage.total_steps:
                scalars = stage.train_step()
                bar.update()
                if stage.step % _REPORT_EVERY == 0:
                    now = time.monotonic()
                    rate = (stage.step - window_step) * stage.config.train.batch_size / (now - window_start)
                    window_start, window_step = now, stage.step
                    self._report(writer, bar, scalars, rate)
                ended = stage.step == stage.total_steps
                epoch_ended = stage.step % stage.steps_per_epoch == 0
                if epoch_ended:
                    stage.end_epoch()
                if ended or stage.step % stage.validate_every == 0:
                    self._validate(writer)
                due = time.monotonic() - saved_at > 60 * stage.config.train.checkpoint_minutes
                stopping = distributed.any_process(self._stop_requested)
                if distributed.any_process(due) or epoch_ended or ended or stopping:
                    self.save(LAST)
                    saved_at = time.monotonic()
                if stopping and not ended:
                    break
        bar.close()
        if writer:
            writer.close()
        return stage.step >= stage.total_steps

    def save(self, name: str) -> None:
        """Write a checkpoint; only the first process does, all may call."""
        if distributed.rank() != 0:
            return
        stage = self.stage
        state = {
            **stage.state(),
            "config": stage.config.model_dump(mode="json"),
            "step": stage.step,
            "epochs": stage.step / stage.steps_per_epoch,
            "data_sha256": stage.source.digest(),
            "command": self.command,
        }
        checkpoint.save(self.directory / name, state)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint of the same configuration and data. Raises CheckpointError otherwise."""
        state = checkpoint.load(path)
        saved = checkpoint.config_of(state, path)
        if _results(saved) != _results(self.stage.config):
            raise checkpoint.CheckpointError(
                f"{path}: was written by a different configuration; {_first_change(saved, self.stage.config)}"
            )
        if state["data_sha256"] != self.stage.source.digest():
            raise checkpoint.CheckpointError(f"{path}: was trained on other pictures or labels")
        self.stage.load_state(state)
        self.stage.step = state["step"]

    def _open(self) -> SummaryWriter | None:
        if distributed.rank() != 0:
            return None
        (self.directory / "samples").mkdir(parents=True, exist_ok=True)
        # Scalars written after the checkpoint we resume from would show twice; the one of that very step stays.
        return SummaryWriter(str(self.directory / "tensorboard"), purge_step=self.stage.step + 1)

    def _report(self, writer: SummaryWriter | None, bar: tqdm, scalars: dict[str, Tensor], rate: float) -> None:
        values = {name: float(distributed.average(value)) for name, value in scalars.items()}
        if writer is None:
            return
        for name, value in values.items():
            writer.add_scalar(f"train/{name}", value, self.stage.step)
        writer.add_scalar("train/images_per_second", rate, self.stage.step)
        shown = " ".join(f"{name} {value:.3g}" for name, value in values.items())
        bar.set_postfix_str(f"{shown} {rate:.0f} images/s")

    def _validate(self, writer: SummaryWriter | None) -> None:
        # Only the writer validates; the others wait in the barrier, so that no rank runs ahead into a collective.
        if writer is not None:
            step = self.stage.step
            values, sheet = self.stage.validate()
            for name, value in values.items():
                writer.add_scalar(f"validation/{name}", value, step)
            shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
            tqdm.write(f"step {step}, epoch {step / self.stage.steps_per_epoch:.2f}: validation {shown}")
            Image.fromarray(sheet).save(self.directory / "samples" / f"step-{step:07d}.png")
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
