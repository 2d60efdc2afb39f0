"""The configuration of the stage that trains a VAE's decoder further."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from training.config.adversarial import AdversarialTrainConfig, FeatureOpponentConfig
from training.config.base import DataConfig, Run, Section


class GeneratorOpponentConfig(FeatureOpponentConfig):
    head_start_steps: int = Field(default=300, ge=0, description="steps in which critic and classifier learn alone")


class GeneratorLossConfig(Section):
    adversarial: float = Field(
        default=1.0, ge=0, description="samples and reconstructions that look real to the critic"
    )
    region: float = Field(default=0.5, ge=0, description="what the critic of each region weighs beside it")
    attributes: float = Field(default=0.5, ge=0, description="samples' attributes, as the classifier sees them")
    pixels: float = Field(default=20.0, ge=0, description="mean squared error of reconstructions, on the scale -1..1")
    features: float = Field(default=2.0, ge=0, description="mean absolute difference of reconstructions' features")
    confidence_margin: float = Field(
        default=0.5, ge=0, description="logits by which samples outdo the average real face"
    )
    swept: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the samples of which an attribute moves after their latent is drawn, as in a sweep",
    )
    temperature: tuple[float, float] = Field(default=(0.7, 1.0), description="range of the samples' noise")


class GeneratorTrainConfig(AdversarialTrainConfig):
    steps: int = Field(default=60_000, ge=1, description="of the whole run")
    batch_size: int = Field(
        default=16, ge=2, description="pictures, reconstructions and samples each, over all processes together"
    )
    learning_rate: float = Field(default=2e-4, gt=0, description="AdamW's, of the decoder")
    ema_decay: float = Field(default=0.998, ge=0, lt=1, description="of the averaged weights, a step")


class GeneratorConfig(Run):
    """A run that trains a VAE's decoder further, on samples of the prior and on reconstructions."""

    stage: Literal["generator"] = Field(description="what is trained")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64, description="of the preset")
    data: DataConfig = DataConfig()
    opponent: GeneratorOpponentConfig = GeneratorOpponentConfig()
    loss: GeneratorLossConfig = GeneratorLossConfig()
    train: GeneratorTrainConfig = GeneratorTrainConfig()

    @model_validator(mode="after")
    def _opponent_fits(self) -> GeneratorConfig:
        self.opponent.require_inside(self.data.image_size)
        return self
