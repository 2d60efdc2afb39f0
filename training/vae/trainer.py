"""The VAE's stage: one step of the model and one of its opponent, and what is looked at in between."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from service.imaging import codecs
from training import attributes as attribute_rules
from training import distributed, losses
from training.config import Config
from training.data.dataset import Faces, without_margin
from training.data.source import Source
from training.graphs import TorchGraphs
from training.pixels import to_model, to_pixels
from training.schedule import cosine, set_learning_rate
from training.target_confidence import TargetConfidence
from training.trainer import Trainer
from training.vae import erasure, objective
from training.vae.augmentation import reframe
from training.vae.difficulty import Difficulty
from training.vae.model import ConditionalVAE, Opponent, Posterior, reparameterise

ERASURE_PASS = 512  # pictures in memory at a time


class VAETrainer(Trainer):
    """`source` has the training pictures with a margin, `held_out` others, uint8 [M, S, S, 3]."""

    config: Config

    def __init__(
        self,
        config: Config,
        source: Source,
        held_out: Faces,
        directory: Path,
        device: torch.device,
        command: str = "",
    ) -> None:
        super().__init__(config, source, directory, device, command)
        self.frequencies = torch.from_numpy(source.frequencies())
        validation = held_out.first(config.train.validation_pictures)
        self.validation_pixels = validation.pixels
        self.validation_labels = torch.from_numpy(validation.labels.astype(np.float32))
        names = config.data.attributes
        self.exclusion = attribute_rules.exclusion_matrix(names, attribute_rules.groups(names, config.data.about))
        size, count = config.data.image_size, len(config.data.attributes)
        # Channels last: convolutions on matrix units run about 1.5 times as fast as with channels first.
        placement = {"device": device, "memory_format": torch.channels_last}
        self.model = ConditionalVAE(config.model, size, count).to(**placement)
        self.ema = ConditionalVAE(config.model, size, count).to(**placement).requires_grad_(False).eval()
        self.ema.load_state_dict(self.model.state_dict())
        self.opponent = Opponent(config.opponent.channels, size, count).to(**placement)
        self.optimiser = self.make_optimiser(self.model)
        self.opponent_optimiser = self.make_opponent_optimiser(self.opponent)
        self.difficulty, self.target_confidence = (
            Difficulty(count, config.loss.difficulty_floor),
            TargetConfidence(count, config.loss.confidence_margin),
        )

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.config.train.epochs

    @property
    def validate_every(self) -> int:
        return self.steps_per_epoch * self.config.train.validate_every

    @property
    def sheet_name(self) -> str:
        return f"epoch-{self.step // self.steps_per_epoch:04d}"

    # -- one step -----------------------------------------------------------------------------------------------

    def train_step(self) -> dict[str, Tensor]:
        """Run step number `self.step` and advance; returns detached scalars, of this process's part of the batch.

        All randomness derives from the seed and the step's number, so a resumed run repeats what an uninterrupted
        one would have done.
        """
        image, labels, draws = self._batch()
        frequencies = self.frequencies.to(self.device)
        exclusion = self.exclusion.to(self.device)
        passes = self.passes()
        variance = self._variance(image, labels, draws, passes)

        def model_loss(rows: slice) -> tuple[Tensor, dict[str, Tensor], objective.Edits]:
            return objective.model_loss(
                self.model,
                self.opponent,
                image[rows],
                labels[rows],
                draws.part(rows),
                exclusion,
                frequencies,
                self.target_confidence,
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
        scalars, norm, edits = self.descend(self.model, self.optimiser, model_loss, passes)
        if not self.config.loss.edits:
            self.average_weights(self.ema, self.model)
            self.step += 1
            return {"gradient_norm": norm, **scalars}
        pictures, logits = (torch.cat(part) for part in zip(*edits, strict=True))
        self.opponent.requires_grad_(True)
        answers, opponent_norm, real_logits = self.descend(
            self.opponent, self.opponent_optimiser, opponent_loss, passes
        )
        self.target_confidence.update(labels, torch.cat(real_logits))
        self.difficulty.update(labels, draws.flips & (draws.strength == 1), logits)
        self.average_weights(self.ema, self.model)
        self.step += 1
        norms = {"gradient_norm": norm, "opponent_gradient_norm": opponent_norm}
        return {**norms, **scalars, "opponent_loss": answers.pop("loss"), **answers}

    def _batch(self) -> tuple[Tensor, Tensor, objective.Draws]:
        """This process's part of the batch: pictures f32 [N, 3, S, S], labels f32 [N, K] and draws."""
        config, size, mine = self.config, self.config.train.batch_size, self.loader.part
        epoch, position = divmod(self.step, self.steps_per_epoch)
        faces = self.loader.take(self.step)
        rng = np.random.default_rng([config.train.seed, epoch, position])
        framing = self._framing(rng)
        image = to_model(faces.pixels, self.device)
        image = reframe(image, config.data.image_size, *(part[mine].to(self.device) for part in framing))
        labels = torch.from_numpy(faces.labels.astype(np.float32))
        odds = losses.flip_probabilities(self.frequencies, labels, self.difficulty.of(labels))
        draws = objective.Draws.make(
            odds,
            self.model.latent_size,
            int(rng.integers(2**62)),
            size,
            mine,
            config.train.labelled_share,
            (config.loss, config.opponent),
            config.data.image_size,
        )
        return image, labels.to(self.device), draws.to(self.device)

    def _variance(self, image: Tensor, labels: Tensor, draws: objective.Draws, passes: list[slice]) -> Tensor | None:
        """The mean squared error of the whole batch, where one pass of `model_loss` cannot know it.

        Its logarithm is the one term that is not a mean over pictures. Given the whole batch's error, the gradients of
        the passes add up to the logarithm's.
        """
        if len(passes) == 1:
            return None
        with self.autocast():
            errors = [
                (rows.stop - rows.start)
                * objective.reconstruction_error(self.model, image[rows], labels[rows], draws.part(rows))
                for rows in passes
            ]
        return distributed.average(sum(errors) / len(image))

    def _framing(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """The shifts, angles, zooms and mirrorings of the global batch, as `augmentation.reframe` takes them."""
        data, size = self.config.data, self.config.train.batch_size
        shift = rng.uniform(-data.shift, data.shift, (size, 2))
        if data.rotation == data.zoom == 0:
            shift = shift.round()  # whole pixels need no interpolation, which would blur
        angle = np.radians(data.rotation) * rng.standard_normal(size)
        zoom = np.exp(data.zoom * rng.standard_normal(size))
        moved = tuple(torch.from_numpy(part.astype(np.float32)) for part in (shift, angle, zoom))
        return *moved, torch.from_numpy((rng.random(size) < 0.5) & data.flip)

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Erase what the averaged model's latents tell linearly of the attributes, from it and from the trained one.

        Done while training goes on, the decoder learns its edits on top of the step between the mean faces of both
        values; done once at the end, that step is added to edits that were learned without it.
        """
        count, graphs, found = min(len(self.source), self.config.train.erasure_pictures), TorchGraphs(self.ema), []
        for start in range(0, count, ERASURE_PASS):
            faces = self.source.read(np.arange(start, min(start + ERASURE_PASS, count)))
            with self.autocast():
                found.append(graphs.whole_mean(without_margin(faces.pixels, self.config.data.image_size)))
        mean, current = (torch.cat(part) for part in zip(*found, strict=True))
        if not (mean.isfinite().all() and current.isfinite().all()):
            raise self.diverged("the averaged model's latents diverged")
        found = erasure.regress(mean, current, self.config.train.erasure_ridge)
        # The same pictures everywhere, but processes must stay equal to the last bit.
        weight, bias = (distributed.average(part) for part in found)
        for model in (self.model, self.ema):
            erasure.replace_prior(model, weight, bias)

    def _set_learning_rates(self) -> None:
        train = self.config.train
        factor = losses.ramp(self.step, train.warmup_steps) * (
            train.final_learning_rate + (1 - train.final_learning_rate) * cosine(self.progress)
        )
        set_learning_rate(self.optimiser, train.learning_rate * factor)
        set_learning_rate(self.opponent_optimiser, train.opponent_learning_rate * factor)

    # -- validation ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        """The averaged model on held-out pictures without given attributes, every attribute inverted in turn.

        Edit success here is the training opponent's own opinion: it orders checkpoints of one run and nothing else.
        """
        image = to_model(self.validation_pixels, self.device)
        labels = self.validation_labels.to(self.device)
        with self.autocast():
            posterior = self.ema.encode(image, torch.full_like(labels, torch.nan))
            reconstruction = self.ema.decode(posterior.mean, posterior.attributes)
        values = self._validate_edits(image, labels, posterior, reconstruction) if self.config.loss.edits else {}
        mse = losses.mean_squared_error(reconstruction, image)
        with self.autocast():
            drawn = self.ema.decode(self._posterior_sample(posterior), posterior.attributes)
        kl = losses.kl_divergence(posterior.mean, posterior.log_variance).mean()
        estimates = (posterior.attribute_logits > 0) == (labels > 0)
        values |= {
            "mse": float(mse),
            "psnr": losses.psnr(mse),
            "kl": float(kl),
            "estimate_accuracy": float(estimates.float().mean()),
            "sampled_mse": float(losses.mean_squared_error(drawn, image)),
        }
        return values | {"score": self.score(values)}, self.sample_grid()

    def _posterior_sample(self, posterior: Posterior) -> Tensor:
        """Latents f32 [N, Z] from the posterior, the same in every validation: the evidence bound is about samples."""
        noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        return reparameterise(posterior.mean, posterior.log_variance, noise)

    def _validate_edits(
        self, image: Tensor, labels: Tensor, posterior: Posterior, reconstruction: Tensor
    ) -> dict[str, float]:
        raw, residual = [], []
        self.opponent.eval()
        with self.autocast():
            for attribute in range(labels.shape[1]):
                target = attribute_rules.invert_one(posterior.attributes, labels, attribute, self.exclusion)
                weight = F.one_hot(torch.tensor(attribute, device=self.device), labels.shape[1]).float()
                edited = self.ema.decode(posterior.mean, target)
                for found, pictures in ((raw, edited), (residual, image + edited - reconstruction)):
                    logits = self.opponent.classifier(pictures.clamp(-1, 1))
                    found.append(losses.attribute_loss(logits, -labels, weight.expand_as(labels)))
        self.opponent.train()
        return {
            "edit_raw": float(torch.stack(raw).mean()),
            "edit_residual": float(torch.stack(residual).mean()),
        }

    def score(self, values: dict[str, float]) -> float:
        """What `best.pt` minimises: the negative evidence bound on held-out pictures, in nats per pixel value, up to
        log(2 pi) / 2, with one sample of each posterior.

        Edits have no part in it: the opponent that judges them changes from epoch to epoch.
        """
        size = 3 * self.config.data.image_size**2
        return 0.5 * math.log(values["sampled_mse"]) + self.config.loss.beta * values["kl"] / size

    @torch.no_grad()
    def sample_grid(self, faces: int = 8) -> np.ndarray:
        """Rows of held-out picture, reconstruction, and each attribute inverted; uint8 [faces S, (K + 2) S, 3]."""
        image = to_model(self.validation_pixels[:faces], self.device)
        labels = self.validation_labels[:faces].to(self.device)
        posterior = self.ema.encode(image, torch.full_like(labels, torch.nan))
        columns = [image, self.ema.decode(posterior.mean, posterior.attributes)]
        for attribute in range(labels.shape[1]):
            target = attribute_rules.invert_one(posterior.attributes, labels, attribute, self.exclusion)
            columns.append(self.ema.decode(posterior.mean, target))
        pictures = torch.stack(columns, dim=1).flatten(0, 1)
        return codecs.grid(to_pixels(pictures), columns=len(columns))

    # -- checkpoints --------------------------------------------------------------------------------------------

    def trained(self) -> dict[str, nn.Module]:
        return {"model": self.model, "ema": self.ema, "opponent": self.opponent}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"optimiser": self.optimiser, "opponent_optimiser": self.opponent_optimiser}

    def state(self) -> dict[str, Any]:
        return {
            "difficulty": self.difficulty.disbelief.values,
            "target_confidence": self.target_confidence.logits.values,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.difficulty.disbelief.values = state["difficulty"]
        self.target_confidence.logits.values = state["target_confidence"]
