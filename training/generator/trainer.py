"""The stage that trains a VAE's decoder further: one step of the decoder, one of its opponent, and sheets of faces."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from service.imaging import codecs
from training import attributes as attribute_rules
from training import losses
from training.config import GeneratorConfig
from training.data.dataset import Faces, augmented
from training.data.source import Source
from training.editor.features import Features
from training.editor.views import Views
from training.flow.model import FlowPrior
from training.generator import objective
from training.generator.objective import Batch, Opponent
from training.generator.sweeps import Moves
from training.pixels import to_model, to_pixels
from training.schedule import follow_late_cosine
from training.target_confidence import TargetConfidence
from training.trainer import Trainer
from training.vae.model import ConditionalVAE, reparameterise

SHEET_FACES = 32
_SHEET_TEMPERATURE = 0.8


class GeneratorTrainer(Trainer):
    """Begins with the weights of `vae`, of which the decoder and its shift are trained; `prior` draws the samples.

    `source` has the training pictures with a margin, `held_out` others, uint8 [M, S, S, 3].
    """

    config: GeneratorConfig

    def __init__(
        self,
        config: GeneratorConfig,
        source: Source,
        held_out: Faces,
        vae: ConditionalVAE,
        prior: FlowPrior,
        features: Features,
        directory: Path,
        device: torch.device,
        command: str = "",
    ) -> None:
        super().__init__(config, source, directory, device, command)
        self.frequencies = torch.from_numpy(source.frequencies())
        groups = attribute_rules.groups(config.data.attributes, config.data.about)
        self.exclusion = attribute_rules.exclusion_matrix(config.data.attributes, groups).to(device)
        self.held_out = held_out.first(config.train.validation_pictures)
        count = len(config.data.attributes)
        placement = {"device": device, "memory_format": torch.channels_last}
        self.average = copy.deepcopy(vae).to(**placement).requires_grad_(False).eval()
        self.model = vae.to(**placement).requires_grad_(False)
        for part in self._learning():
            part.requires_grad_(True)
        self.prior = prior.to(device).requires_grad_(False).eval()
        self.features = features.to(**placement)
        self.opponent = Opponent(config.opponent, count).to(**placement)
        self.confidence = TargetConfidence(count, config.loss.confidence_margin)
        self.optimiser = self.make_optimiser(nn.ModuleList(self._learning()))
        self.opponent_optimiser = self.make_opponent_optimiser(self.opponent)

    def _learning(self) -> list[nn.Module]:
        return [self.model.decoder, self.model.shift]

    def train_step(self) -> dict[str, Tensor]:
        batch = self._batch()
        passes = self.passes()
        follow_late_cosine(self.config.train, self.progress, self.optimiser, self.opponent_optimiser)
        scalars: dict[str, Tensor] = {}

        def decoder_loss(rows: slice):
            return objective.decoder_loss(
                self.model, self.opponent, self.features, batch.part(rows), self.confidence, self.config
            )

        if self.step >= self.config.opponent.head_start_steps:
            self.opponent.requires_grad_(False)
            scalars, norm, inputs = self.descend(self.model, self.optimiser, decoder_loss, passes)
            self.opponent.requires_grad_(True)
            self.average_weights(self.average, self.model)
            scalars |= {"gradient_norm": norm}
        else:
            with self.autocast():
                inputs = [
                    objective.opponent_inputs(self.model, self.opponent, self.features, batch.part(rows), self.config)
                    for rows in passes
                ]
        self.confidence.update(batch.labels, torch.cat([each.logits for each in inputs]))
        inputs_of_passes = iter(inputs)
        frequencies = self.frequencies.to(self.device)

        def opponent_loss(rows: slice):
            return objective.opponent_loss(self.opponent, batch.part(rows), next(inputs_of_passes), frequencies)

        found, norm, _ = self.descend(self.opponent, self.opponent_optimiser, opponent_loss, passes)
        scalars |= {"opponent_gradient_norm": norm, "opponent_loss": found.pop("loss"), **found}
        self.step += 1
        return scalars

    @torch.no_grad()
    def _batch(self) -> Batch:
        """This process's part of the batch. Half of the pictures are encoded with their labels; samples take the labels
        of other pictures, so that they occur together as people have them, and then some move in one attribute."""
        config, size, mine = self.config, self.config.train.batch_size, self.loader.part
        faces = self.loader.take(self.step)
        rng = np.random.default_rng([config.train.seed, self.step])
        reach, margin = int(config.data.shift), config.data.margin
        offsets = margin + rng.integers(-reach, reach + 1, (size, 2))
        mirrored = (rng.random(size) < 0.5) & config.data.flip
        count = mine.stop - mine.start
        pixels = augmented(faces.pixels, np.arange(count), config.data.image_size, offsets[mine], mirrored[mine])
        image = to_model(pixels, self.device).contiguous(memory_format=torch.channels_last)
        labels = torch.from_numpy(faces.labels.astype(np.float32)).to(self.device)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        spread, noise = torch.randn(2, size, self.model.latent_size, generator=generator)[:, mine].to(self.device)
        use_labels, use_sample_labels = (torch.rand(2, size, 1, generator=generator) < 0.5)[:, mine].to(self.device)
        low, high = config.loss.temperature
        temperature = (low + (high - low) * torch.rand(size, 1, generator=generator))[mine].to(self.device)
        moves = Moves.draw(size, labels.shape[1], config.loss.swept, generator).part(mine).to(self.device)
        with self.autocast():
            posterior = self.model.encode(image, torch.where(use_labels, labels, torch.nan))
        latent = reparameterise(posterior.mean, posterior.log_variance, spread)
        # Neighbours' labels and estimates: the order of pictures is random.
        sample_labels = labels.roll(1, 0)
        estimates = torch.tanh(0.5 * posterior.attribute_logits).roll(1, 0)
        sample_attributes = torch.where(use_sample_labels, sample_labels, estimates)
        return Batch(
            image,
            labels,
            latent,
            posterior.attributes,
            self.prior(temperature * noise, sample_attributes),
            moves.of(sample_attributes, sample_labels, self.exclusion),
            moves.of(sample_labels, sample_labels, self.exclusion),
            Views.draw(size, config.data.image_size - config.opponent.crop, int(rng.integers(2**62))).part(mine),
        )

    # -- validation ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        """Reconstructions of held-out pictures, the share of samples' attributes that the training classifier sees,
        and a sheet."""
        image = to_model(self.held_out.pixels, self.device)
        labels = torch.from_numpy(self.held_out.labels.astype(np.float32)).to(self.device)
        posterior = self.average.encode(image, torch.full_like(labels, torch.nan))
        mse = losses.mean_squared_error(self.average.decode(posterior.mean, posterior.attributes).clamp(-1, 1), image)
        drawn = self._samples(labels)
        corner = (self.config.data.image_size - self.config.opponent.crop) // 2
        side = slice(corner, corner + self.config.opponent.crop)
        logits = self.opponent.classifier(self.features(drawn[:, :, side, side]))
        correct = (logits > 0) == (labels > 0)
        present = correct[labels > 0].float().mean()
        figures = {"psnr": losses.psnr(mse), "seen": float(correct.float().mean()), "present_seen": float(present)}
        return figures, self.sheet()

    def _samples(self, labels: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        noise = _SHEET_TEMPERATURE * torch.randn(len(labels), self.model.latent_size, generator=generator)
        return self.average.decode(self.prior(noise.to(self.device), labels), labels).clamp(-1, 1)

    @torch.no_grad()
    def sheet(self, count: int = SHEET_FACES) -> np.ndarray:
        """Samples with the labels of held-out pictures, then pictures above their reconstructions; uint8 [H, W, 3]."""
        labels = torch.from_numpy(self.held_out.labels[:count].astype(np.float32)).to(self.device)
        image = to_model(self.held_out.pixels[:8], self.device)
        posterior = self.average.encode(image, torch.full_like(labels[:8], torch.nan))
        reconstruction = self.average.decode(posterior.mean, posterior.attributes)
        return codecs.grid(to_pixels(torch.cat([self._samples(labels), image, reconstruction])), columns=8)

    # -- checkpoints --------------------------------------------------------------------------------------------

    def trained(self) -> dict[str, nn.Module]:
        return {"model": self.model, "ema": self.average, "opponent": self.opponent}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"optimiser": self.optimiser, "opponent_optimiser": self.opponent_optimiser}

    def state(self) -> dict[str, Any]:
        return {"target_confidence": self.confidence.logits.values}

    def load_state(self, state: dict[str, Any]) -> None:
        self.confidence.logits.values = state["target_confidence"]
