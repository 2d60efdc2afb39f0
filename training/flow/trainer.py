"""The stage of the learned prior: one step of flow matching, and how well it predicts on held-out pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from service.imaging import codecs
from training.config import FlowConfig
from training.flow.model import FlowPrior, logit_normal, training_pair
from training.flow.source import Posteriors, PosteriorSource
from training.pixels import to_pixels
from training.schedule import cosine, set_learning_rate
from training.trainer import Trainer
from training.vae.model import ConditionalVAE, reparameterise

VALIDATION_LATENTS = 2048
SHEET_FACES = 32


class FlowTrainer(Trainer):
    """`vae` is the model whose latents these are, in evaluation mode; `held_out` are posteriors of other pictures."""

    config: FlowConfig

    def __init__(
        self,
        config: FlowConfig,
        source: PosteriorSource,
        held_out: Posteriors,
        vae: ConditionalVAE,
        directory: Path,
        device: torch.device,
        command: str = "",
    ) -> None:
        super().__init__(config, source, directory, device, command)
        self.vae, self.held_out = vae.to(device).requires_grad_(False), held_out
        self.prior = FlowPrior(config.model, vae.latent_size, len(source.attributes)).to(device)
        self._standardise(source.posteriors)
        self.average = FlowPrior(config.model, vae.latent_size, len(source.attributes)).to(device)
        self.average.load_state_dict(self.prior.state_dict())
        self.average.requires_grad_(False).eval()
        self.optimiser = self.make_optimiser(self.prior)

    def _standardise(self, posteriors: Posteriors) -> None:
        """By the total variance: that of the means, and the mean of the variances."""
        known = torch.from_numpy(posteriors.labels).to(self.device)
        latent = self._residual(torch.from_numpy(posteriors.mean).to(self.device), known)
        variance = latent.var(0) + torch.from_numpy(np.exp(posteriors.log_variance).mean(0)).to(self.device)
        self.prior.mean.copy_(latent.mean(0))
        self.prior.scale.copy_(variance.sqrt().clamp(min=1e-3))

    @torch.no_grad()
    def _residual(self, whole: Tensor, known: Tensor) -> Tensor:
        """The residual latents f32 [N, Z] of posterior means that still hold what attributes f32 [N, K] explain."""
        return whole - self.vae.explained(known)

    def train_step(self) -> dict[str, Tensor]:
        config, mine = self.config, self.loader.part
        batch = self.loader.take(self.step)
        generator = torch.Generator().manual_seed(
            int(np.random.default_rng([config.train.seed, self.step]).integers(2**62))
        )
        size, latent_size = config.train.batch_size, self.vae.latent_size
        spread, noise = torch.randn(2, size, latent_size, generator=generator)[:, mine].to(self.device)
        time = logit_normal(torch.randn(size, generator=generator))[mine].to(self.device)
        labelled = (torch.rand(size, 1, generator=generator) < config.train.labelled_share)[mine].to(self.device)
        latent, attributes = self._latents(batch, spread, labelled)
        passes = self.passes()

        def loss(rows: slice) -> tuple[Tensor, dict[str, Tensor], None]:
            x, velocity = training_pair(latent[rows], noise[rows], time[rows])
            error = (self.prior.velocity(x, time[rows], attributes[rows]).float() - velocity).square().mean()
            return error, {}, None

        set_learning_rate(self.optimiser, config.train.learning_rate * self._rate())
        scalars, norm, _ = self.descend(self.prior, self.optimiser, loss, passes)
        self.average_weights(self.average, self.prior)
        self.step += 1
        return {"gradient_norm": norm, **scalars}

    def _rate(self) -> float:
        train = self.config.train
        warm = min(1.0, (self.step + 1) / max(1, train.warmup_steps))
        return warm * (train.final_learning_rate + (1 - train.final_learning_rate) * cosine(self.progress))

    def _latents(self, batch: Posteriors, spread: Tensor, labelled: Tensor) -> tuple[Tensor, Tensor]:
        """Standardised posterior samples f32 [N, Z], and the attributes f32 [N, K] that go with them."""
        mean, log_variance, estimates, labels = (
            torch.from_numpy(values).to(self.device) for values in vars(batch).values()
        )
        known = torch.where(labelled, labels, estimates)
        return self.prior.standardised(reparameterise(self._residual(mean, known), log_variance, spread)), known

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        """The loss on held-out posteriors at fixed noise and times, and a sheet of faces drawn from the prior."""
        generator = torch.Generator().manual_seed(0)
        batch = Posteriors(*(values[:VALIDATION_LATENTS] for values in vars(self.held_out).values()))
        count = len(batch)
        spread, noise = torch.randn(2, count, self.vae.latent_size, generator=generator).to(self.device)
        time = logit_normal(torch.randn(count, generator=generator)).to(self.device)
        latent, attributes = self._latents(batch, spread, torch.arange(count, device=self.device)[:, None] % 2 == 0)
        x, velocity = training_pair(latent, noise, time)
        error = (self.average.velocity(x, time, attributes) - velocity).square().mean()
        return {"score": float(error)}, self.sheet()

    @torch.no_grad()
    def sheet(self, count: int = SHEET_FACES, temperature: float = 0.8) -> np.ndarray:
        """Faces drawn with the attributes of held-out pictures; uint8 [H, W, 3]."""
        generator = torch.Generator().manual_seed(1)
        attributes = torch.from_numpy(self.held_out.estimates[:count]).to(self.device)
        noise = temperature * torch.randn(len(attributes), self.vae.latent_size, generator=generator).to(self.device)
        return codecs.grid(to_pixels(self.vae.decode(self.average(noise, attributes), attributes)), columns=8)

    def trained(self) -> dict[str, nn.Module]:
        return {"model": self.prior, "ema": self.average}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        return {"optimiser": self.optimiser}

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Everything that a run needs lies in its networks and optimisers."""
