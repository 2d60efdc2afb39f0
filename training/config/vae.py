"""The configuration of the VAE."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from training.config.adversarial import OpposedTrainSection
from training.config.base import DataConfig, Run, Section


class ModelConfig(Section):
    global_size: int = Field(default=128, ge=1, description="latent values that have no place in the picture")
    map_channels: int = Field(
        default=8, ge=1, description="latent values at each place of a map, twice the size of the smallest feature map"
    )
    encoder_channels: list[int] = Field(
        default=[32, 64, 128, 256], min_length=2, description="of each stage; the first has half of the picture's size"
    )
    decoder_channels: list[int] = Field(
        default=[256, 160, 96, 32], min_length=2, description="of each stage; the last has half of the picture's size"
    )
    output: Literal["bilinear", "shuffle"] = Field(
        default="bilinear",
        description="how the last doubling is made: interpolated features, or shuffled pixels on interpolated colours",
    )
    condition_size: int = Field(default=128, ge=1, description="width of the vector that FiLM layers read")


class OpponentConfig(Section):
    """Critic and classifier, and how they see pictures. What is in pixels is so for pictures of 64, and scales."""

    channels: list[int] = Field(
        default=[32, 64, 128, 256], min_length=2, description="of each strided convolution, of critic and classifier"
    )
    shift: int = Field(default=4, ge=0, description="largest shift of what both see, pixels of a picture of 64")
    saturation: float = Field(default=0.3, ge=0, lt=1, description="largest change of saturation for both, as a factor")
    contrast: float = Field(default=0.2, ge=0, lt=1, description="largest change of contrast for both, as a factor")
    brightness: float = Field(default=0.15, ge=0, description="largest change of brightness for both, on a scale of 2")
    tint: float = Field(default=0.2, ge=0, lt=1, description="largest change of each colour for the classifier")
    grey: float = Field(default=0.3, ge=0, le=1, description="share of pictures without colour for the classifier")
    blur: float = Field(default=0.3, ge=0, le=1, description="share of pictures blurred for the classifier")
    noise: float = Field(
        default=0.03, ge=0, description="standard deviation of the classifier's noise, at 64 pixels, on a scale of 2"
    )


class LossConfig(Section):
    """Weights, all relative to the reconstruction term in nats per pixel value."""

    beta: float = Field(default=1.0, ge=0, description="KL weight relative to the calibrated likelihood")
    kl_warmup_steps: int = Field(default=500, ge=0, description="steps over which the KL term ramps up")
    estimate: float = Field(default=0.05, ge=0, description="encoder's own attribute estimates")
    edit: float = Field(default=1.2, ge=0, description="edited attributes, as the classifier sees them")
    keep: float = Field(default=2.0, ge=0, description="attributes the edit should leave alone")
    change: float = Field(default=0.4, ge=0, description="mean absolute change of an edit, so that it stays local")
    adversarial: float = Field(default=1.2, ge=0, description="edits that look real to the critic")
    sharpening: float = Field(
        default=4.0,
        ge=1,
        description="factor on that for raw decodes in the second half of the run",
    )
    robustness: float = Field(
        default=1.5, ge=0, description="L2 radius of worst cases the classifier learns from, at 64 pixels"
    )
    slope: float = Field(default=1.0, ge=0, description="R1 penalty on the critic")
    slope_every: int = Field(default=4, ge=1, description="one picture in so many bears the R1 penalty")
    raw_every: int = Field(default=3, ge=1, description="one edit in so many is judged raw, the others as residuals")
    even_kinds: bool = Field(
        default=False,
        description="whether the critic of raw edits, and that of residual ones, sees as many real pictures as edits",
    )
    confidence_margin: float = Field(default=2.0, ge=0, description="logits by which edits outdo the average real face")
    edit_warmup_steps: int = Field(default=1000, ge=0, description="steps over which the edit terms ramp up")
    second_edit: float = Field(
        default=0.3, ge=0, le=1, description="share of the pictures of which two attributes are inverted"
    )
    partial_edit: float = Field(
        default=0.25, ge=0, le=1, description="share of the edits that go a part of the way, so that halfway means that"
    )
    cleared: float = Field(
        default=0.5,
        ge=0,
        description="what each present attribute weighs that an added one clears, beside the added one",
    )
    difficulty_floor: float = Field(
        default=0.2, gt=0, description="added to how little an edit is believed: edits of 0 are still chosen"
    )
    label_smoothing: float = Field(
        default=0.1, ge=0, lt=1, description="by how much the encoder's estimates may stay short of -1 and 1"
    )

    @property
    def edits(self) -> bool:
        """Whether the decoder learns to edit; without, there is neither a second decode nor an opponent."""
        return any((self.edit, self.keep, self.change, self.adversarial))


class TrainConfig(OpposedTrainSection):
    epochs: int = Field(default=24, ge=1, description="how often each picture is seen")
    warmup_steps: int = Field(default=300, ge=0, description="steps over which the learning rates ramp up")
    labelled_share: float = Field(
        default=0.0, ge=0, le=1, description="of each batch that is encoded with its labels instead of estimates"
    )
    erasure_ridge: float = Field(
        default=0.03, ge=0, description="of the regression that erases attributes from latents after every epoch"
    )
    erasure_pictures: int = Field(default=4096, ge=2, description="to fit that regression to")
    validate_every: int = Field(default=2, ge=1, description="epochs between validations and sample grids")
    validation_pictures: int = Field(default=512, ge=8, description="held-out pictures that validations look at")


class Config(Run):
    """A whole run of the VAE. Read one with `load`."""

    stage: Literal["vae"] = Field(default="vae", description="what is trained")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64, description="of the bundle and its directory")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    opponent: OpponentConfig = OpponentConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _stages_fit_the_picture(self) -> Config:
        stages = {
            "model.encoder_channels": self.model.encoder_channels,
            "model.decoder_channels": self.model.decoder_channels,
            "opponent.channels": self.opponent.channels,
        }
        for name, channels in stages.items():
            if self.data.image_size % 2 ** len(channels):
                raise ValueError(
                    f"{name} has {len(channels)} stages; data.image_size = {self.data.image_size} "
                    f"must be a multiple of {2 ** len(channels)}"
                )
        if len(self.model.encoder_channels) != len(self.model.decoder_channels):
            raise ValueError(
                f"model.encoder_channels has {len(self.model.encoder_channels)} stages and model.decoder_channels "
                f"{len(self.model.decoder_channels)}; they must be as many"
            )
        return self
