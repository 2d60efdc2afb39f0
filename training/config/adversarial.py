"""What the stages have in common that learn against an opponent, and those whose opponent sees frozen features."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from training.config.base import Section, TrainSection


class FeatureOpponentConfig(Section):
    """A critic and a classifier on frozen features."""

    critic_width: int = Field(default=64, ge=1, description="channels of each head of the critic")
    classifier_width: int = Field(default=128, ge=1, description="channels of the classifier on the features")
    crop: int = Field(
        default=112, ge=32, multiple_of=16, description="side of the random part of a picture that is looked at"
    )
    regions: list[tuple[int, int, int, int]] = Field(
        default=[],
        description="boxes of the frame (left, top, right, bottom) that critics of their own see at twice the size",
    )

    @field_validator("regions")
    @classmethod
    def _regions_suit_the_features(cls, regions: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
        for left, top, right, bottom in regions:
            width, height = right - left, bottom - top
            if left < 0 or top < 0 or width < 16 or height < 16 or width % 8 or height % 8:
                raise ValueError(f"{(left, top, right, bottom)}: sides must be multiples of 8, at least 16, from 0")
        return regions

    def require_inside(self, image_size: int) -> None:
        """Raises ValueError where the opponent sees parts that no picture of that size has."""
        if self.crop > image_size:
            raise ValueError(f"opponent.crop = {self.crop}: must be at most data.image_size = {image_size}")
        for region in self.regions:
            if max(region) > image_size:
                raise ValueError(f"opponent.regions: {region} leaves the frame of {image_size} pixels")


class OpposedTrainSection(TrainSection):
    """What the runs have in which a model learns against an opponent."""

    opponent_learning_rate: float = Field(default=4e-4, gt=0, description="AdamW's, of the opponent")
    opponent_beta1: float = Field(default=0.5, ge=0, lt=1, description="AdamW's, of the opponent")
    clip_apart: bool = Field(
        default=False, description="clip the gradients of critics and classifiers each by its own norm"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="of convolutions and products; auto: bf16 where it is faster"
    )


class AdversarialTrainConfig(OpposedTrainSection):
    """A run counted in steps; its defaults are the editor's."""

    steps: int = Field(default=100_000, ge=1, description="of the whole run")
    final_learning_rate: float = Field(default=0.1, ge=0, le=1, description="fraction left at the end (cosine)")
    cosine_from: float = Field(default=0.7, ge=0, le=1, description="share of the run after which the rates fall")
    gradient_clip: float = Field(default=5.0, gt=0, description="largest norm of a gradient")
    ema_decay: float = Field(default=0.996, ge=0, lt=1, description="of the averaged weights, a step")
    validate_every: int = Field(default=1000, ge=1, description="steps between validations and sample grids")
    validation_pictures: int = Field(default=256, ge=10, description="held-out pictures that validations look at")
