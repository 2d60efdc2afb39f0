"""The configuration of the editor."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from training.config.adversarial import AdversarialTrainConfig, FeatureOpponentConfig
from training.config.base import DataConfig, Run, Section

DEFAULT_KEPT = [
    "Receding_Hairline",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
]  # unless they can be edited


class EditorDataConfig(DataConfig):
    """The editor's pictures. They are shifted by whole pixels and mirrored alone, since resampling blurs them."""

    image_size: int = Field(default=128, ge=32, multiple_of=16, description="side of the editor's square picture")
    crop_box: tuple[float, float, float, float] = Field(
        default=(0.0, 20.0, 178.0, 198.0), description="left, top, right, bottom of what the editor sees, a square"
    )
    kept: list[str] = Field(
        default_factory=lambda data: [name for name in DEFAULT_KEPT if name not in data.get("attributes", [])],
        description="attributes that nobody can edit, and that every edit has to leave alone",
    )
    shift: float = Field(default=4.0, ge=0, description="largest random shift, pixels of the model's image")
    rotation: float = Field(default=0.0, ge=0, le=0, description="not supported by this stage")
    zoom: float = Field(default=0.0, ge=0, le=0, description="not supported by this stage")
    margin: int = Field(default=10, ge=0, multiple_of=2, description="surroundings for these")
    darker: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the pictures shown in darker tones, where no light hair or skin is shown or requested",
    )
    darkest: float = Field(default=3.0, ge=1, description="largest exponent of these tones, on a scale of 0..1")
    repeat: dict[str, Annotated[int, Field(ge=1, le=100)]] = Field(
        default={}, description="how often an epoch shows the pictures with an attribute, by name; others once"
    )

    @model_validator(mode="after")
    def _shifts_stay_inside(self) -> EditorDataConfig:
        if self.shift > self.margin:
            raise ValueError(f"data.shift = {self.shift:g} must be at most data.margin = {self.margin}")
        if both := set(self.kept) & set(self.attributes):
            raise ValueError(f"data.kept: {min(both)!r} is one of data.attributes")
        if unknown := sorted(set(self.repeat) - set(self.labels)):
            raise ValueError(f"data.repeat: {unknown[0]!r} is none of data.attributes and data.kept")
        return self

    @property
    def labels(self) -> list[str]:
        """All attributes that the opponent knows: those that can be edited, then those that are only kept."""
        return [*self.attributes, *self.kept]


class EditorModelConfig(Section):
    channels: tuple[int, int, int] = Field(default=(48, 72, 112), description="at a quarter, an eighth, a sixteenth")
    detail_channels: int = Field(default=24, ge=1, description="at half of the picture's size")
    condition_size: int = Field(default=96, ge=1, description="width of the vector that FiLM layers read")
    person_channels: int = Field(
        default=0,
        ge=0,
        multiple_of=2,
        description="of the part that says where the person is, behind whom nothing changes; 0: none",
    )
    max_flow: float = Field(default=0.1, gt=0, le=1, description="largest offset of a pixel, in shares of the frame")
    mask_bias: float = Field(
        default=-1.0, description="logit of the mask at the start: most of a picture is not touched by most edits"
    )
    full_change: float = Field(
        default=0.1, gt=0, description="largest change below which an edit fades out, so that no change is no edit"
    )


class RequestsConfig(Section):
    """Which edits a step requests."""

    second: float = Field(default=0.2, ge=0, le=1, description="share of the pictures with two inverted attributes")
    partial: float = Field(default=0.2, ge=0, le=1, description="share of the edits that go a part of the way")
    rarest: float = Field(
        default=0.03,
        gt=0,
        le=0.5,
        description="values of attributes that are rarer are drawn as if they were so common",
    )
    least_full_change: float = Field(
        default=0.85, gt=0, le=1, description="smallest change that means all the way: estimates are seldom plain"
    )
    taken_away: float = Field(
        default=0.5,
        ge=0,
        description="what each hair colour weighs that an added one takes away, and the open mouth of a removed smile",
    )
    emphasis: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="how much more often than others attributes are requested, by name"
    )


class ViewsConfig(Section):
    """How the robust classifier sees pictures."""

    tint: float = Field(default=0.2, ge=0, lt=1, description="largest change of each colour's strength")
    brightness: float = Field(default=0.15, ge=0, description="largest change of brightness, on a scale of 2")
    grey: float = Field(default=0.3, ge=0, le=1, description="share of pictures without colour")
    noise: float = Field(default=0.03, ge=0, description="standard deviation of noise, on a scale of 2")


class EditorOpponentConfig(FeatureOpponentConfig):
    robust_size: int = Field(default=64, ge=16, description="side of what the robust classifier looks at")
    robust_channels: list[int] = Field(
        default=[32, 64, 128, 256], min_length=2, description="of each strided convolution of the robust classifier"
    )
    robustness: float = Field(default=0.5, ge=0, description="L2 radius of the worst cases it learns from")
    head_start_steps: int = Field(
        default=600, ge=0, description="steps in which the classifiers, and where the person is, are learned alone"
    )


class EditorLossConfig(Section):
    edit: float = Field(default=3.0, ge=0, description="edited attributes, as both classifiers see them")
    keep: float = Field(default=4.0, ge=0, description="attributes that the edit should leave alone")
    adversarial: float = Field(default=1.0, ge=0, description="edits that look real to the critic")
    region: float = Field(default=0.5, ge=0, description="what the critic of each region weighs beside it")
    change: float = Field(default=1.0, ge=0, description="mean absolute change")
    outside: float = Field(default=20.0, ge=0, description="mean absolute change where no edit should reach")
    mask: float = Field(default=0.1, ge=0, description="mean of the mask")
    flow: float = Field(default=4.0, ge=0, description="mean length of the flow, in shares of the frame")
    person: float = Field(default=1.0, ge=0, description="where the person is, if model.person_channels")
    anchor: float = Field(
        default=0.0,
        ge=0,
        description="difference to the edits that the run began with, of attributes not in requests.emphasis",
    )
    scalp: float = Field(
        default=0.0, ge=0, description="difference of colour between a head that becomes bald and its face"
    )
    dye: float = Field(
        default=0.0, ge=0, description="mean absolute residual where hair is made dark: what is drawn and not tinted"
    )
    confidence_margin: float = Field(
        default=1.0,
        ge=0,
        description="logits by which edits outdo the average real face, to each classifier; of what few faces show",
    )
    usual_margin: float = Field(
        default=1.0, ge=0, description="the same for edits to what most faces show, such as no moustache"
    )
    warmup_steps: int = Field(default=200, ge=0, description="steps over which the last four of them ramp up")
    ellipse: tuple[float, float] = Field(
        default=(76.0, 98.0), description="half axes of the region around a face, in pixels of the aligned picture"
    )
    face_ellipse: tuple[float, float] = Field(
        default=(58.0, 66.0), description="the same for edits of the face alone, as a smile"
    )


class EditorConfig(Run):
    """A whole run of the editor."""

    stage: Literal["editor"] = Field(description="what is trained")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=64, description="of the preset")
    data: EditorDataConfig = EditorDataConfig()
    model: EditorModelConfig = EditorModelConfig()
    requests: RequestsConfig = RequestsConfig()
    opponent: EditorOpponentConfig = EditorOpponentConfig()
    views: ViewsConfig = ViewsConfig()
    loss: EditorLossConfig = EditorLossConfig()
    train: AdversarialTrainConfig = AdversarialTrainConfig()

    @model_validator(mode="after")
    def _emphasis_is_of_attributes(self) -> EditorConfig:
        if unknown := sorted(set(self.requests.emphasis) - set(self.data.attributes)):
            raise ValueError(f"requests.emphasis: {unknown[0]!r} is not one of data.attributes")
        if self.loss.anchor and all(value == 1 for value in self.requests.emphasis.values()):
            raise ValueError("loss.anchor: needs requests.emphasis, which names what the run may change")
        return self

    @model_validator(mode="after")
    def _opponent_fits(self) -> EditorConfig:
        self.opponent.require_inside(self.data.image_size)
        return self
