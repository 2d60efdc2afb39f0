"""The configuration of a training run: one TOML file, checked before anything is read or written."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

# What a manifest accepts as a name (service.bundle), checked here so that hours of training do not end in a refusal.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
PRESETS = Path(__file__).parent / "presets"

DEFAULT_ATTRIBUTES = [
    "Bald", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Bushy_Eyebrows", "Eyeglasses", "Gray_Hair",
    "Heavy_Makeup", "Male", "Mouth_Slightly_Open", "Mustache", "No_Beard", "Pale_Skin", "Smiling", "Young",
]  # fmt: skip


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, the value and the rule."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which pictures, and how they are framed. Boxes are left, top, right, bottom in pixels of the aligned picture."""

    attributes: list[str] = Field(default=DEFAULT_ATTRIBUTES, min_length=1)
    limit: int | None = Field(default=None, ge=1, description="first N pictures of the training partition, id order")
    image_size: int = Field(default=64, ge=16, multiple_of=16)
    aligned_size: tuple[int, int] = (178, 218)
    crop_box: tuple[float, float, float, float] = (15.0, 40.0, 163.0, 188.0)
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

    @property
    def labels(self) -> list[str]:
        """All attributes that are read."""
        return self.attributes

    shift: float = Field(default=2.0, ge=0, description="largest random shift, pixels of the model's image")
    rotation: float = Field(default=5.0, ge=0, le=45, description="standard deviation of random rotations, degrees")
    zoom: float = Field(default=0.05, ge=0, lt=0.5, description="standard deviation of a random zoom's logarithm")
    margin: int = Field(default=6, ge=0, description="surroundings for these, pixels of the model's image")
    flip: bool = True
    shuffle_window: int = Field(
        default=8192,
        ge=1,
        description="pictures among which those from shards are shuffled; the shards are before that",
    )


class ModelConfig(_Section):
    global_size: int = Field(default=128, ge=1, description="latent values that have no place in the picture")
    map_channels: int = Field(
        default=8, ge=1, description="latent values at each place of a map, twice the size of the smallest feature map"
    )
    encoder_channels: list[int] = Field(default=[32, 64, 128, 256], min_length=2)
    decoder_channels: list[int] = Field(default=[256, 160, 96, 32], min_length=2)
    output: Literal["bilinear", "shuffle"] = Field(
        default="bilinear",
        description="how the last doubling is made: interpolated features, or shuffled pixels on interpolated colours",
    )
    condition_size: int = Field(default=128, ge=1, description="width of the vector that FiLM layers read")


class OpponentConfig(_Section):
    channels: list[int] = Field(default=[32, 64, 128, 256], min_length=2)


class LossConfig(_Section):
    """Weights, all relative to the reconstruction term in nats per pixel value."""

    beta: float = Field(default=1.0, ge=0, description="KL weight relative to the calibrated likelihood")
    kl_warmup_steps: int = Field(default=500, ge=0)
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
    robustness: float = Field(default=1.5, ge=0, description="L2 radius of worst cases the classifier learns from")
    slope: float = Field(default=1.0, ge=0, description="R1 penalty on the critic")
    plainness_margin: float = Field(default=2.0, ge=0, description="logits by which edits outdo the average real face")
    edit_warmup_steps: int = Field(default=1000, ge=0, description="steps over which the edit terms ramp up")

    @property
    def edits(self) -> bool:
        """Whether the decoder learns to edit; without, there is neither a second decode nor an opponent."""
        return any((self.edit, self.keep, self.change, self.adversarial))


class TrainConfig(_Section):
    seed: int = Field(default=1, ge=0, lt=2**31)
    epochs: int = Field(default=24, ge=1)
    batch_size: int = Field(default=32, ge=2, description="over all processes together")
    micro_batch: int | None = Field(
        default=None, ge=1, description="most pictures that one process computes in one pass; changes no result"
    )
    learning_rate: float = Field(default=4e-4, gt=0)
    opponent_learning_rate: float = Field(default=4e-4, gt=0)
    final_learning_rate: float = Field(default=0.02, ge=0, le=1, description="fraction left at the end (cosine)")
    warmup_steps: int = Field(default=300, ge=0)
    beta1: float = Field(default=0.5, ge=0, lt=1, description="Adam's, for the model; the opponent's is 0.5")
    labelled_share: float = Field(
        default=0.0, ge=0, le=1, description="of each batch that is encoded with its labels instead of estimates"
    )
    weight_decay: float = Field(default=1e-4, ge=0)
    gradient_clip: float = Field(default=1.0, gt=0)
    erasure_ridge: float = Field(
        default=0.03, ge=0, description="of the regression that erases attributes from latents after every epoch"
    )
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    validate_every: int = Field(default=2, ge=1, description="epochs between validations and sample grids")
    checkpoint_minutes: float = Field(default=5.0, ge=0)


class EditorDataConfig(DataConfig):
    """The editor's pictures. They are shifted by whole pixels and mirrored alone, since resampling blurs them."""

    image_size: int = Field(default=128, ge=32, multiple_of=16)
    crop_box: tuple[float, float, float, float] = (0.0, 20.0, 178.0, 198.0)
    kept: list[str] = Field(
        default=["Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie"],
        description="attributes that nobody can edit, and that every edit has to leave alone",
    )
    shift: float = Field(default=4.0, ge=0, description="largest random shift, pixels of the model's image")
    rotation: float = Field(default=0.0, ge=0, le=0, description="not supported by this stage")
    zoom: float = Field(default=0.0, ge=0, le=0, description="not supported by this stage")
    margin: int = Field(default=10, ge=0, multiple_of=2, description="surroundings for these")

    @model_validator(mode="after")
    def _shifts_stay_inside(self) -> EditorDataConfig:
        if self.shift > self.margin:
            raise ValueError(f"data.shift = {self.shift:g} must be at most data.margin = {self.margin}")
        if both := set(self.kept) & set(self.attributes):
            raise ValueError(f"data.kept: {min(both)!r} is one of data.attributes")
        return self

    @property
    def labels(self) -> list[str]:
        """All attributes that the opponent knows: those that can be edited, then those that are only kept."""
        return [*self.attributes, *self.kept]


class EditorModelConfig(_Section):
    channels: tuple[int, int, int] = Field(default=(48, 72, 112), description="at a quarter, an eighth, a sixteenth")
    detail_channels: int = Field(default=24, ge=1, description="at half of the picture's size")
    condition_size: int = Field(default=96, ge=1, description="width of the vector that FiLM layers read")


class EditorOpponentConfig(_Section):
    critic_width: int = Field(default=64, ge=1)
    classifier_width: int = Field(default=128, ge=1)
    crop: int = Field(
        default=112, ge=32, multiple_of=16, description="side of the random part of a picture that is looked at"
    )
    regions: list[tuple[int, int, int, int]] = Field(
        default=[],
        description="boxes of the frame (left, top, right, bottom) that critics of their own see at twice the size",
    )
    robust_size: int = Field(default=64, ge=16, description="side of what the robust classifier looks at")
    robust_channels: list[int] = Field(default=[32, 64, 128, 256], min_length=2)
    robustness: float = Field(default=0.5, ge=0, description="L2 radius of the worst cases it learns from")
    head_start_steps: int = Field(default=600, ge=0, description="steps in which the classifiers learn alone")

    @field_validator("regions")
    @classmethod
    def _regions_suit_the_features(cls, regions: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
        for left, top, right, bottom in regions:
            width, height = right - left, bottom - top
            if left < 0 or top < 0 or width < 16 or height < 16 or width % 8 or height % 8:
                raise ValueError(f"{(left, top, right, bottom)}: sides must be multiples of 8, at least 16, from 0")
        return regions


class EditorLossConfig(_Section):
    edit: float = Field(default=3.0, ge=0, description="edited attributes, as both classifiers see them")
    keep: float = Field(default=4.0, ge=0, description="attributes that the edit should leave alone")
    adversarial: float = Field(default=1.0, ge=0, description="edits that look real to the critic")
    region: float = Field(default=0.5, ge=0, description="what the critic of each region weighs beside it")
    change: float = Field(default=1.0, ge=0, description="mean absolute change")
    outside: float = Field(default=8.0, ge=0, description="mean absolute change where no edit should reach")
    mask: float = Field(default=0.1, ge=0, description="mean of the mask")
    flow: float = Field(default=4.0, ge=0, description="mean length of the flow, in shares of the frame")
    certainty: float = Field(default=0.9, gt=0, le=1, description="of the classifiers, which an edit aims for")
    warmup_steps: int = Field(default=200, ge=0, description="steps over which the last four of them ramp up")
    ellipse: tuple[float, float] = Field(
        default=(76.0, 98.0), description="half axes of the region around a face, in pixels of the aligned picture"
    )


class EditorTrainConfig(_Section):
    seed: int = Field(default=1, ge=0, lt=2**31)
    steps: int = Field(default=100_000, ge=1)
    batch_size: int = Field(default=32, ge=2, description="over all processes together")
    micro_batch: int | None = Field(
        default=None, ge=1, description="most pictures that one process computes in one pass; changes no result"
    )
    learning_rate: float = Field(default=4e-4, gt=0)
    opponent_learning_rate: float = Field(default=4e-4, gt=0)
    final_learning_rate: float = Field(default=0.1, ge=0, le=1, description="fraction left at the end (cosine)")
    cosine_from: float = Field(default=0.7, ge=0, le=1, description="share of the run after which the rates fall")
    weight_decay: float = Field(default=1e-4, ge=0)
    gradient_clip: float = Field(default=5.0, gt=0)
    ema_decay: float = Field(default=0.996, ge=0, lt=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    validate_every: int = Field(default=1000, ge=1, description="steps between validations and sample grids")
    checkpoint_minutes: float = Field(default=5.0, ge=0)


class EditorConfig(_Section):
    """A whole run of the editor."""

    stage: Literal["editor"]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64)
    data: EditorDataConfig = EditorDataConfig()
    model: EditorModelConfig = EditorModelConfig()
    opponent: EditorOpponentConfig = EditorOpponentConfig()
    loss: EditorLossConfig = EditorLossConfig()
    train: EditorTrainConfig = EditorTrainConfig()

    @model_validator(mode="after")
    def _crop_fits(self) -> EditorConfig:
        if self.opponent.crop > self.data.image_size:
            raise ValueError(
                f"opponent.crop = {self.opponent.crop}: must be at most data.image_size = {self.data.image_size}"
            )
        for region in self.opponent.regions:
            if max(region) > self.data.image_size:
                raise ValueError(f"opponent.regions: {region} leaves the frame of {self.data.image_size} pixels")
        return self


class Config(_Section):
    """A whole run of the VAE. Read one with `load`."""

    stage: Literal["vae"] = "vae"

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


_STAGES: dict[str, type[Config] | type[EditorConfig]] = {"vae": Config, "editor": EditorConfig}


def parse(values: dict) -> Config | EditorConfig:
    """Check `values` against the schema of their `stage`, which is "vae" if they do not say.

    Raises ConfigError; an unknown key is answered with the nearest known one.
    """
    stage = values.get("stage", "vae")
    if stage not in _STAGES:
        raise ConfigError(f"stage = {stage!r}: must be one of {', '.join(_STAGES)}")
    schema = _STAGES[stage]
    try:
        return schema.model_validate(values)
    except ValidationError as exc:
        raise ConfigError("; ".join(_explain(error, schema) for error in exc.errors())) from exc


def load(preset: str, overrides: list[str] = ()) -> Config | EditorConfig:
    """Read a preset by name or a TOML file by path, then apply `section.key=value` overrides (values in TOML).

    Raises ConfigError for a file that is missing or not TOML, an unknown key, or a value outside its range.
    """
    path = Path(preset) if preset.endswith(".toml") else PRESETS / f"{preset}.toml"
    if not path.is_file():
        known = sorted(p.stem for p in PRESETS.glob("*.toml"))
        raise ConfigError(f"preset {preset!r}: no file {path}; known presets: {', '.join(known)}")
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: not TOML: {exc}") from exc
    for override in overrides:
        _apply(values, override)
    return parse(values)


def _apply(values: dict, override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise ConfigError(f"override {override!r}: must be section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    *sections, last = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {override!r}: {section!r} is a value, not a section")
    values[last] = value


def _explain(error: dict, schema: type[BaseModel]) -> str:
    location = ".".join(str(part) for part in error["loc"])
    between_keys = error["type"] == "value_error" and isinstance(error["input"], dict)
    if not location or between_keys:  # the message names them
        return error["msg"]
    if error["type"] != "extra_forbidden":
        return f"{location} = {error['input']!r}: {error['msg']}"
    model = schema
    for part in error["loc"][:-1]:
        model = model.model_fields[part].annotation
    near = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, n=1, cutoff=0.0)
    return f"unknown key {location!r}; did you mean {near[0]!r}?"
