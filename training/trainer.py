"""The training loop: steps, averaged weights, checkpoints, validation, and a clean stop."""

from __future__ import annotations

import math
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from service import images
from training import attributes as attribute_rules
from training import checkpoint, distributed, erasure, losses, objective
from training.augmentation import reframe
from training.config import Config, ConfigError
from training.dataset import Faces, without_margin
from training.difficulty import Difficulty
from training.graphs import TorchGraphs
from training.model import ConditionalVAE, Opponent
from training.pixels import to_model, to_pixels
from training.plainness import Plainness
from training.precision import autocast
from training.source import BatchLoader, Source

VALIDATION_PICTURES = 512
ERASURE_PICTURES = 4096
ERASURE_PASS = 512  # of them in memory at a time


class Trainer:
    """One run in `directory`: construct, optionally `resume`, then `fit`.

    `source` has the training pictures with a margin, `held_out` others, uint8 [M, S, S, 3], of which the first
    VALIDATION_PICTURES are looked at.
    """

    def __init__(
        self,
        config: Config,
        source: Source,
        held_out: Faces,
        directory: Path,
        device: torch.device,
        command: str = "",
    ) -> None:
        if config.train.batch_size % distributed.world():
            raise ConfigError(
                f"train.batch_size = {config.train.batch_size}: must be a multiple of {distributed.world()} processes"
            )
        if len(source) < config.train.batch_size:
            raise ConfigError(
                f"train.batch_size = {config.train.batch_size}: there are only {len(source)} training pictures"
            )
        self.config = config
        self.source, self.loader = source, BatchLoader(source, config.train.seed, config.train.batch_size)
        self.frequencies = torch.from_numpy(source.frequencies())
        seen = held_out.first(VALIDATION_PICTURES)
        self.validation_pixels = seen.pixels
        self.validation_labels = torch.from_numpy(seen.labels.astype(np.float32))
        self.exclusion = attribute_rules.exclusion_matrix(config.data.attributes)
        self.directory, self.device, self.command = Path(directory), device, command
        self.steps_per_epoch = self.loader.steps_per_epoch
        self.total_steps = self.steps_per_epoch * config.train.epochs

        torch.manual_seed(config.train.seed)  # the same initial weights in every process
        size, count = config.data.image_size, len(config.data.attributes)
        # Channels last: convolutions on matrix units run about 1.5 times as fast as with channels first.
        place = {"device": device, "memory_format": torch.channels_last}
        self.model = ConditionalVAE(config.model, size, count).to(**place)
        self.ema = ConditionalVAE(config.model, size, count).to(**place).requires_grad_(False).eval()
        self.ema.load_state_dict(self.model.state_dict())
        self.opponent = Opponent(config.opponent.channels, size, count).to(**place)
        self.optimiser = self._optimiser(self.model, config.train.learning_rate)
        self.opponent_optimiser = self._optimiser(self.opponent, config.train.opponent_learning_rate)
        self.difficulty, self.plainness = Difficulty(count), Plainness(count, config.loss.plainness_margin)
        self.step = 0
        self.best_score = math.inf
        self._stop_requested = False

    @property
    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        return min(1.0, self.step / max(1, self.total_steps))

    # -- one step -----------------------------------------------------------------------------------------------

    def train_step(self) -> dict[str, Tensor]:
        """Run step number `self.step` and advance; returns detached scalars, of this process's part of the batch.

        All randomness derives from the seed and the step's number, so a resumed run repeats what an uninterrupted
        one would have done.
        """
        image, labels, draws = self._batch()
        frequencies = self.frequencies.to(self.device)
        exclusion = self.exclusion.to(self.device)
        passes = self._passes()
        variance = self._variance(image, draws, passes)

        def model_loss(rows: slice) -> tuple[Tensor, dict[str, Tensor], objective.Edits]:
            return objective.model_loss(
                self.model,
                self.opponent,
                image[rows],
                labels[rows],
                draws.part(rows),
                exclusion,
                self.plainness,
                self.config,
                self.step,
                self.progress,
                variance,
            )

        def opponent_loss(rows: slice) -> tuple[Tensor, dict[str, Tensor], Tensor]:
            return objective.opponent_loss(
                self.opponent, image[rows], labels[rows], frequencies, pictures[rows], draws.part(rows), self.config
            )

        self._set_learning_rates()
        self.opponent.requires_grad_(False)
        scalars, norm, edits = self._descend(self.model, self.optimiser, model_loss, passes)
        pictures, logits = (torch.cat(part) for part in zip(*edits, strict=True))
        self.opponent.requires_grad_(True)
        answers, _, real_logits = self._descend(self.opponent, self.opponent_optimiser, opponent_loss, passes)
        self.plainness.update(labels, torch.cat(real_logits))
        self.difficulty.update(labels, draws.flips & (draws.strength == 1), logits)
        self._average_weights()
        self.step += 1
        return {"gradient_norm": norm, **scalars, "opponent_loss": answers.pop("loss"), **answers}

    def _batch(self) -> tuple[Tensor, Tensor, objective.Draws]:
        """This process's part of the batch: pictures f32 [N, 3, S, S], labels f32 [N, K] and draws."""
        config, size, mine = self.config, self.config.train.batch_size, self.loader.part
        epoch, place = divmod(self.step, self.steps_per_epoch)
        faces = self.loader.take(self.step)
        rng = np.random.default_rng([config.train.seed, epoch, place])
        framing = self._framing(rng)
        image = to_model(faces.pixels, self.device)
        image = reframe(image, config.data.image_size, *(part[mine].to(self.device) for part in framing))
        labels = torch.from_numpy(faces.labels.astype(np.float32))
        odds = losses.flip_probabilities(self.frequencies, labels, self.difficulty.of(labels))
        draws = objective.Draws.make(odds, self.model.latent_size, int(rng.integers(2**62)), size, mine)
        return image, labels.to(self.device), draws.to(self.device)

    def _passes(self) -> list[slice]:
        """How this process's part of the batch is cut so that each pass fits into memory."""
        part = self.loader.part
        count = part.stop - part.start
        most = min(count, self.config.train.micro_batch or count)
        return [slice(start, min(start + most, count)) for start in range(0, count, most)]

    def _variance(self, image: Tensor, draws: objective.Draws, passes: list[slice]) -> Tensor | None:
        """The mean squared error of the whole batch, where one pass of `model_loss` cannot know it.

        Its logarithm is the one term that is not a mean over pictures. Given the whole batch's error, the gradients of
        the passes add up to the logarithm's.
        """
        if len(passes) == 1:
            return None
        with self._autocast():
            errors = [
                (rows.stop - rows.start) * objective.reconstruction_error(self.model, image[rows], draws.part(rows))
                for rows in passes
            ]
        return distributed.average(sum(errors) / len(image))

    def _framing(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """The shifts, angles, zooms and mirrorings of the global batch, as `augmentation.reframe` takes them."""
        data, size = self.config.data, self.config.train.batch_size
        shift = rng.uniform(-data.shift, data.shift, (size, 2))
        angle = np.radians(data.rotation) * rng.standard_normal(size)
        zoom = np.exp(data.zoom * rng.standard_normal(size))
        moved = tuple(torch.from_numpy(part.astype(np.float32)) for part in (shift, angle, zoom))
        return *moved, torch.from_numpy((rng.random(size) < 0.5) & data.flip)

    def _descend(
        self, module: torch.nn.Module, optimiser: torch.optim.Optimizer, loss: Callable, passes: list[slice]
    ) -> tuple[dict[str, Tensor], Tensor, list]:
        """One step of `module` down `loss`, which takes the rows of a pass and returns a total, its parts and more.

        Returns the total as "loss" and its parts, averaged over the passes, the gradient's norm, and every "more".
        """
        optimiser.zero_grad(set_to_none=True)
        scalars, others = Counter(), []
        for rows in passes:
            with self._autocast():
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
    def _average_weights(self) -> None:
        # A short horizon at the start, or the average would remember the random weights for a thousand steps.
        decay = min(self.config.train.ema_decay, (1 + self.step) / (10 + self.step))
        average, current = self.ema.state_dict(), self.model.state_dict()  # buffers too: the prior moves with the rest
        torch._foreach_lerp_(list(average.values()), [current[name] for name in average], 1 - decay)

    @torch.no_grad()
    def _erase(self) -> None:
        """Erase what the averaged model's latents tell linearly of the attributes, from it and from the trained one.

        Done while training goes on, the decoder learns its edits on top of the step between the mean faces of both
        values; done once at the end, that step is added to edits that were learned without it.
        """
        count, graphs, found = min(len(self.source), ERASURE_PICTURES), TorchGraphs(self.ema), []
        for start in range(0, count, ERASURE_PASS):
            faces = self.source.read(np.arange(start, min(start + ERASURE_PASS, count)))
            with self._autocast():
                found.append(graphs.whole_mean(without_margin(faces.pixels, self.config.data.image_size)))
        mean, shown = (torch.cat(part) for part in zip(*found, strict=True))
        found = erasure.regress(mean, shown, self.config.train.erasure_ridge)
        # The same pictures everywhere, but processes must stay equal to the last bit.
        weight, bias = (distributed.average(part) for part in found)
        for model in (self.model, self.ema):
            erasure.replace_prior(model, weight, bias)

    def _optimiser(self, module: torch.nn.Module, rate: float) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            module.parameters(), lr=rate, betas=(0.5, 0.99), weight_decay=self.config.train.weight_decay
        )

    def _set_learning_rates(self) -> None:
        train = self.config.train
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress))
        factor = losses.ramp(self.step, train.warmup_steps) * (
            train.final_learning_rate + (1 - train.final_learning_rate) * cosine
        )
        for optimiser, rate in (
            (self.optimiser, train.learning_rate),
            (self.opponent_optimiser, train.opponent_learning_rate),
        ):
            for group in optimiser.param_groups:
                group["lr"] = rate * factor

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.config.train.precision)

    # -- the run ------------------------------------------------------------------------------------------------

    def fit(self) -> bool:
        """Train to the last epoch, writing checkpoints, scalars and grids. False if it was stopped before."""
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
        with self._stop_on_signal():
            while self.step < self.total_steps:
                scalars = self.train_step()
                bar.update()
                if self.step % 50 == 0:
                    now = time.monotonic()
                    rate = (self.step - window_step) * self.config.train.batch_size / (now - window_start)
                    window_start, window_step = now, self.step
                    self._report(writer, bar, scalars, rate)
                epoch, place = divmod(self.step, self.steps_per_epoch)
                ended = self.step == self.total_steps
                if place == 0:
                    self._erase()
                if place == 0 and (ended or epoch % self.config.train.validate_every == 0):
                    self._validate_and_keep_best(writer, epoch)
                due = time.monotonic() - saved_at > 60 * self.config.train.checkpoint_minutes
                stopping = distributed.any_process(self._stop_requested)
                if distributed.any_process(due) or place == 0 or stopping:
                    self.save("last.pt")
                    saved_at = time.monotonic()
                if stopping and not ended:
                    break
        bar.close()
        if writer:
            writer.close()
        return self.step >= self.total_steps

    def _open_run(self) -> SummaryWriter | None:
        if distributed.rank() != 0:
            return None
        (self.directory / "samples").mkdir(parents=True, exist_ok=True)
        # Scalars written after the checkpoint we resume from would show twice.
        return SummaryWriter(str(self.directory / "tensorboard"), purge_step=self.step)

    def _report(self, writer: SummaryWriter | None, bar: tqdm, scalars: dict[str, Tensor], rate: float) -> None:
        values = {name: float(distributed.average(value)) for name, value in scalars.items()}
        if writer is None:
            return
        values["psnr"] = losses.psnr(values["mse"])
        for name, value in values.items():
            writer.add_scalar(f"train/{name}", value, self.step)
        writer.add_scalar("train/images_per_second", rate, self.step)
        shown = ("loss", "psnr", "kl", "edit", "opponent_loss")
        bar.set_postfix_str(" ".join(f"{n} {values[n]:.3g}" for n in shown) + f" {rate:.0f} images/s")

    @contextmanager
    def _stop_on_signal(self):
        def request(*_: object) -> None:
            self._stop_requested = True

        previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    # -- validation ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The averaged model on held-out pictures without given attributes, every attribute inverted in turn.

        Edit success here is the training opponent's own opinion: it orders checkpoints of one run and nothing else.
        """
        image = to_model(self.validation_pixels, self.device)
        labels = self.validation_labels.to(self.device)
        self.opponent.eval()
        with self._autocast():
            posterior = self.ema.encode(image, torch.full_like(labels, torch.nan))
            reconstruction = self.ema.decode(posterior.mean, posterior.attributes)
            raw, residual = [], []
            for attribute in range(labels.shape[1]):
                asked = attribute_rules.invert_one(posterior.attributes, labels, attribute, self.exclusion)
                weight = F.one_hot(torch.tensor(attribute, device=self.device), labels.shape[1]).float()
                edited = self.ema.decode(posterior.mean, asked)
                for found, pictures in ((raw, edited), (residual, image + edited - reconstruction)):
                    logits = self.opponent.classifier(pictures.clamp(-1, 1))
                    found.append(losses.attribute_loss(logits, -labels, weight.expand_as(labels)))
        self.opponent.train()
        mse = losses.mean_squared_error(reconstruction, image)
        kl = losses.kl_divergence(posterior.mean, posterior.log_variance).mean()
        estimates = (posterior.attribute_logits > 0) == (labels > 0)
        return {
            "mse": float(mse),
            "psnr": losses.psnr(mse),
            "kl": float(kl),
            "estimate_accuracy": float(estimates.float().mean()),
            "edit_raw": float(torch.stack(raw).mean()),
            "edit_residual": float(torch.stack(residual).mean()),
        }

    def score(self, values: dict[str, float]) -> float:
        """What `best.pt` minimises: the negative evidence bound on held-out pictures, in nats per pixel value.

        Edits have no part in it: the opponent that judges them changes from epoch to epoch.
        """
        size = 3 * self.config.data.image_size**2
        return 0.5 * math.log(values["mse"]) + self.config.loss.beta * values["kl"] / size

    def _validate_and_keep_best(self, writer: SummaryWriter | None, epoch: int) -> None:
        # Only the writer validates; the others wait in the barrier, so that no rank runs ahead into a collective.
        if distributed.rank() == 0 and writer is not None:
            values = self.validate()
            score = self.score(values)
            for name, value in {**values, "score": score}.items():
                writer.add_scalar(f"validation/{name}", value, self.step)
            shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
            tqdm.write(f"epoch {epoch}: validation score {score:.4f} {shown}")
            grid = self.sample_grid()
            Image.fromarray(grid).save(self.directory / "samples" / f"epoch-{epoch:04d}.png")
            writer.add_image("validation/edits", grid, self.step, dataformats="HWC")
            if score < self.best_score:
                self.best_score = score
                self.save("best.pt")
        distributed.barrier()

    @torch.no_grad()
    def sample_grid(self, faces: int = 8) -> np.ndarray:
        """Rows of held-out picture, reconstruction, and each attribute inverted; uint8 [faces S, (K + 2) S, 3]."""
        image = to_model(self.validation_pixels[:faces], self.device)
        labels = self.validation_labels[:faces].to(self.device)
        posterior = self.ema.encode(image, torch.full_like(labels, torch.nan))
        columns = [image, self.ema.decode(posterior.mean, posterior.attributes)]
        for attribute in range(labels.shape[1]):
            asked = attribute_rules.invert_one(posterior.attributes, labels, attribute, self.exclusion)
            columns.append(self.ema.decode(posterior.mean, asked))
        pictures = torch.stack(columns, dim=1).flatten(0, 1)
        return images.grid(to_pixels(pictures), columns=len(columns))

    # -- checkpoints --------------------------------------------------------------------------------------------

    def save(self, name: str) -> None:
        """Write a checkpoint; only the first process does, all may call."""
        if distributed.rank() != 0:
            return
        state = {
            "config": self.config.model_dump(mode="json"),
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "opponent": self.opponent.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "opponent_optimiser": self.opponent_optimiser.state_dict(),
            "difficulty": self.difficulty.disbelief.values,
            "plainness": self.plainness.logits.values,
            "step": self.step,
            "epochs": self.step / self.steps_per_epoch,
            "best_score": self.best_score,
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
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.opponent.load_state_dict(state["opponent"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.opponent_optimiser.load_state_dict(state["opponent_optimiser"])
        self.difficulty.disbelief.values = state["difficulty"]
        self.plainness.logits.values = state["plainness"]
        self.step = state["step"]
        self.best_score = state["best_score"]


def _results(config: Config) -> dict:
    """What results depend on. How a batch is cut into passes may change, so that a run goes on with less memory."""
    return config.model_dump(exclude={"train": {"micro_batch"}})


def _first_change(old: Config, new: Config) -> str:
    before, after = _results(old), _results(new)
    for section, values in before.items():
        if values == after[section]:
            continue
        if not isinstance(values, dict):
            return f"{section}: {values!r} there, {after[section]!r} here"
        key = next(key for key, value in values.items() if value != after[section][key])
        return f"{section}.{key}: {values[key]!r} there, {after[section][key]!r} here"
    raise AssertionError("the configurations are equal")
