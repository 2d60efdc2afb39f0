"""The configuration of the learned prior."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from training.config.base import DataConfig, Run, Section, TrainSection


class FlowModelConfig(Section):
    width: int = Field(default=512, ge=8, description="of the residual layers")
    blocks: int = Field(default=5, ge=1, description="residual layers")
    condition_size: int = Field(default=256, ge=8, description="width of the vector of time and attributes")
    steps: int = Field(
        default=3, ge=1, le=64, description="midpoint steps from noise to a latent, two evaluations each"
    )


class FlowTrainConfig(TrainSection):
    steps: int = Field(default=8000, ge=1, description="of the whole run")
    batch_size: int = Field(default=256, ge=2, description="over all processes together")
    learning_rate: float = Field(default=1e-3, gt=0, description="AdamW's")
    warmup_steps: int = Field(default=200, ge=0, description="steps over which the learning rate ramps up")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="AdamW's")
    labelled_share: float = Field(
        default=0.5, ge=0, le=1, description="of the latents that go with labels instead of the encoder's estimates"
    )
    precision: Literal["fp32"] = Field(default="fp32", description="of this stage, always")
    validate_every: int = Field(default=1000, ge=1, description="steps between validations and sample grids")


class FlowConfig(Run):
    """A whole run of the learned prior. Its pictures are framed as those of the VAE whose latents it models."""

    stage: Literal["prior"] = Field(description="what is trained")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64, description="of the preset")
    data: DataConfig = DataConfig()
    model: FlowModelConfig = FlowModelConfig()
    train: FlowTrainConfig = FlowTrainConfig()
