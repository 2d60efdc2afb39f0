"""What every stage's configuration has: a section's rules, and which pictures, framed how."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from service.bundle.manifest import folded, refuse_ratings

# What a manifest accepts as names (service.bundle), checked here so that hours of training do not end in a refusal.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ALIAS = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$"

DEFAULT_ATTRIBUTES = [
    "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Bushy_Eyebrows", "Eyeglasses", "Gray_Hair",
    "Heavy_Makeup", "Male", "Mouth_Slightly_Open", "Mustache", "No_Beard", "Pale_Skin", "Smiling", "Young",
]  # fmt: skip


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, the value and the rule."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TrainSection(Section):
    """What the runs of all stages have. Their defaults differ; AdamW is the optimizer of all."""

    seed: int = Field(default=1, ge=0, lt=2**31, description="of all randomness")
    batch_size: int = Field(default=32, ge=2, description="over all processes together")
    micro_batch: int | None = Field(
        default=None, ge=1, description="most items of a batch that one process computes at once; changes no result"
    )
    learning_rate: float = Field(default=4e-4, gt=0, description="AdamW's, of the model")
    final_learning_rate: float = Field(default=0.02, ge=0, le=1, description="fraction left at the end (cosine)")
    beta1: float = Field(default=0.5, ge=0, lt=1, description="AdamW's, of the model")
    beta2: float = Field(default=0.99, ge=0, lt=1, description="AdamW's")
    weight_decay: float = Field(default=1e-4, ge=0, description="AdamW's")
    gradient_clip: float = Field(default=1.0, gt=0, description="largest norm of a gradient")
    ema_decay: float = Field(default=0.999, ge=0, lt=1, description="of the averaged weights, a step")
    checkpoint_minutes: float = Field(default=5.0, ge=0, description="between checkpoints; also after every epoch")


class AttributeConfig(Section):
    """What a preset says of an attribute; what it does not say is as CelebA has it, or else nothing."""

    description: str | None = Field(default=None, min_length=1, description="for people, in a few words")
    group: str | None = Field(default=None, min_length=1, description="attributes of a group exclude each other")
    sensitive: bool | None = Field(default=None, description="touches on a trait that people are discriminated for")
    aliases: list[Annotated[str, Field(pattern=_ALIAS)]] = Field(
        default=[], description="what else the column of labels may be called, and what else requests may call it"
    )


class DataConfig(Section):
    """Which pictures, and how they are framed. Boxes are left, top, right, bottom in pixels of the aligned picture."""

    attributes: list[str] = Field(
        default=DEFAULT_ATTRIBUTES, min_length=1, description="that the model knows, in the order of its vectors"
    )
    about: dict[str, AttributeConfig] = Field(
        default={}, description="the preset's table [attributes]: description, group, sensitive, aliases of each"
    )
    limit: int | None = Field(default=None, ge=1, description="first N pictures of the training partition, id order")
    image_size: int = Field(default=64, ge=16, multiple_of=16, description="side of the model's square picture")
    aligned_size: tuple[int, int] = Field(default=(178, 218), description="width and height of every picture file")
    crop_box: tuple[float, float, float, float] = Field(
        default=(15.0, 40.0, 163.0, 188.0), description="left, top, right, bottom of what the model sees, a square"
    )
    landmarks: list[tuple[float, float]] = Field(
        default=[(69.4, 111.2), (107.7, 111.1), (88.0, 135.0), (71.5, 152.4), (104.8, 152.4)],
        min_length=5,
        max_length=5,
        description="left eye, right eye, nose, left and right mouth corner in the aligned picture",
    )

    @field_validator("attributes")
    @classmethod
    def _names_are_plain_and_unique(cls, names: list[str]) -> list[str]:
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} may have letters, digits, '.', '_' and '-' only, at most 64 of them")
        if len(set(names)) != len(names):
            raise ValueError("a name stands twice")
        refuse_ratings(names)
        return names

    @field_validator("crop_box")
    @classmethod
    def _crop_is_square(cls, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        left, top, right, bottom = box
        if not (right > left and abs((right - left) - (bottom - top)) < 1e-6):
            raise ValueError("must be a square with a positive side")
        return box

    @model_validator(mode="after")
    def _crop_is_in_the_picture(self) -> DataConfig:
        left, top, right, bottom = self.crop_box
        width, height = self.aligned_size
        if left < 0 or top < 0 or right > width or bottom > height:
            raise ValueError(
                f"data.crop_box = {list(self.crop_box)}: must lie in the aligned picture, whose data.aligned_size is "
                f"{width} x {height}"
            )
        return self

    @model_validator(mode="after")
    def _landmarks_are_in_the_picture(self) -> DataConfig:
        width, height = self.aligned_size
        if outside := [(x, y) for x, y in self.landmarks if not (0 <= x <= width and 0 <= y <= height)]:
            raise ValueError(f"data.landmarks: {outside[0]} lies outside of data.aligned_size = {width} x {height}")
        return self

    @model_validator(mode="after")
    def _only_what_is_read_is_described(self) -> DataConfig:
        if unknown := [name for name in self.about if name not in self.labels]:
            raise ValueError(f"attributes.{unknown[0]}: is not one of data.attributes = {self.labels}")
        return self

    @model_validator(mode="after")
    def _aliases_are_unique(self) -> DataConfig:
        owners = {folded(name): name for name in self.labels}
        for name, aliases in self.aliases.items():
            refuse_ratings(aliases)
            for alias in aliases:
                if owners.setdefault(folded(alias), name) != name:
                    raise ValueError(f"attributes.{name}.aliases: {alias!r} is a name of {owners[folded(alias)]} too")
        return self

    @property
    def labels(self) -> list[str]:
        """All attributes that are read."""
        return self.attributes

    @property
    def aliases(self) -> dict[str, list[str]]:
        """What else attributes may be called in the list of labels."""
        return {name: own.aliases for name, own in self.about.items() if own.aliases}

    shift: float = Field(default=2.0, ge=0, description="largest random shift, pixels of the model's image")
    rotation: float = Field(default=5.0, ge=0, le=45, description="standard deviation of random rotations, degrees")
    zoom: float = Field(default=0.05, ge=0, lt=0.5, description="standard deviation of a random zoom's logarithm")
    margin: int = Field(default=6, ge=0, description="surroundings for these, pixels of the model's image")
    flip: bool = Field(default=True, description="mirror half of the pictures")
    shuffle_window: int = Field(
        default=8192,
        ge=1,
        description="pictures among which those from shards are shuffled; the shards are before that",
    )


class Run(Section):
    """A whole run: what a preset says."""

    @model_validator(mode="before")
    @classmethod
    def _attributes_are_data(cls, values: Any) -> Any:
        """The table [attributes] describes the attributes, and names them where data.attributes does not."""
        if not isinstance(values, dict) or "attributes" not in values:
            return values
        table, data = values["attributes"], dict(values.get("data", {}))
        if not isinstance(table, dict):
            raise ValueError("attributes: must be a table of tables, [attributes.NAME]; the list is data.attributes")
        data.setdefault("attributes", [name for name in table if name not in data.get("kept", [])])
        rest = {name: value for name, value in values.items() if name != "attributes"}
        return rest | {"data": data | {"about": table}}
