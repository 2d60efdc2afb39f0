"""The parameters of every operation: names, types and bounds. Their titles are the names in the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from service.bundle.sampler import TEMPERATURE
from service.bundle.vectors import LATENT_LIMIT, LEVEL_LIMIT
from service.errors import LONGEST_VALUE, Problem, invalid, printable, rule_of

# What one request may name: attributes, latents, faces or variants, and parameters. A megabyte of JSON holds hundreds
# of thousands, each of which may be wrong, and they are checked on the event loop.
_MOST_ITEMS, _MOST_PARAMETERS = 1000, 100
MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exact
_VARIANT_SIZE = 256  # pixels


def _from_text(value: Any) -> Any:
    """Form fields and query parameters carry structured values as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("must be JSON") from None


def _few(value: Any) -> Any:
    if isinstance(value, dict | list) and len(value) > _MOST_ITEMS:
        raise ValueError(f"must have at most {_MOST_ITEMS} values")
    return value


def _names(value: Any) -> Any:
    """A name is a list of one; in forms and queries a list is JSON text."""
    if isinstance(value, str):
        return _from_text(value) if value.startswith("[") else [value]
    return value


def _jpeg(value: Any) -> Any:
    """Suffixes of JPEG files name the format, too."""
    name = value.lower() if isinstance(value, str) else value
    return "jpeg" if name in ("jpg", "jpe", "jfif") else name


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _level(value: Any) -> Any:
    return 2.0 * value - 1.0 if isinstance(value, bool) else value


def _attribute_form(value: Any) -> str:
    return ATTRIBUTE_FORMS[1] if isinstance(value, list) else ATTRIBUTE_FORMS[0]


def _bounds(low: float, high: float) -> dict[str, Any]:
    """Of a number, in a JSON schema."""
    return {"minimum": low, "maximum": high}


# Tags of the two forms; they show up in the locations of pydantic's errors.
ATTRIBUTE_FORMS = ("by-name", "vector")
Number = Annotated[float, Field(strict=True)]
# Checked where the model is known, for errors that name the attribute; here for whoever reads the document.
Level = Annotated[
    Number,
    BeforeValidator(_level),
    WithJsonSchema({"type": ["number", "boolean"]} | _bounds(-LEVEL_LIMIT, LEVEL_LIMIT)),
]
Attributes = Annotated[
    Annotated[dict[str, Level | None], Tag(ATTRIBUTE_FORMS[0])]
    | Annotated[list[Level | None], Tag(ATTRIBUTE_FORMS[1])],
    Discriminator(_attribute_form),
    BeforeValidator(_few),
    BeforeValidator(_from_text),
    Field(
        description="attribute values, -1 absent .. +1 present (up to 2 exaggerates), or false and true: by name or "
        "alias, or the whole vector in the model's order, or in CelebA's; null where unknown. Sensitive ones only "
        "where the operator has enabled them.",
        examples=[{"Eyeglasses": 1}],
    ),
]
Names = Annotated[
    list[str],
    Field(min_length=1, max_length=2),
    BeforeValidator(_names),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
            ],
            "examples": ["Eyeglasses"],
        }
    ),
]
Coordinate = Annotated[Number, Field(json_schema_extra=_bounds(-LATENT_LIMIT, LATENT_LIMIT))]
Vector = Annotated[list[Coordinate], Field(fail_fast=True), BeforeValidator(_from_text)]
Vectors = Annotated[list[Vector], Field(fail_fast=True), BeforeValidator(_few), BeforeValidator(_from_text)]
Variants = Annotated[list[Attributes], Field(fail_fast=True), BeforeValidator(_few), BeforeValidator(_from_text)]
Scalar = Annotated[float, BeforeValidator(_not_boolean), Field(allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(_not_boolean)]
Quality = Annotated[int, Field(ge=1, le=100), BeforeValidator(_not_boolean)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(_not_boolean)]


_FACE = TypeAdapter(Annotated[int, Field(ge=0)])


def _face(value: Any) -> Any:
    """One error for both choices, which a union would give an error each."""
    try:
        return value if value == "all" else _FACE.validate_python(_not_boolean(value))
    except ValueError:
        raise ValueError("must be a number from 0, or 'all'") from None


def _ordered(value: list[float]) -> list[float]:
    left, top, right, bottom = value
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise ValueError("must be left, top, right and bottom in shares of width and height, 0 to 1 each")
    return value


def _between(low: int, high: int) -> Any:
    """Bounds that the schema names too, which pydantic leaves out behind a validator."""
    return Field(ge=low, le=high, json_schema_extra=_bounds(low, high))


Share = Annotated[Number, Field(json_schema_extra=_bounds(0, 1))]
Region = Annotated[
    list[Share],
    Field(min_length=4, max_length=4, description="left, top, right and bottom in shares of width and height"),
    BeforeValidator(_from_text),
    AfterValidator(_ordered),
]
FaceChoice = Annotated[Annotated[int, Field(ge=0)] | Literal["all"], BeforeValidator(_face)]


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="name of a loaded bundle; the default one if left out")


class _Pictures(_Parameters):
    format: Annotated[Literal["png", "jpeg", "webp"], BeforeValidator(_jpeg)] = Field(
        default="png", description="of the pictures inside a JSON response; otherwise `Accept` decides"
    )
    quality: Quality | None = Field(
        default=None,
        description="for JPEG and WebP, 1 to 100; left out, an edited photograph is encoded as its file was, and all "
        "other pictures with 90",
    )


class _FromPicture(BaseModel):
    photo: str | None = Field(
        default=None, description="the handle that `/v1/photos` gave for the picture, instead of the picture itself"
    )
    framed: bool | None = Field(
        default=None,
        description="whether the picture is a framed face already, so that none has to be found; left out, that is so "
        "for pictures of exactly the model's aligned size, or its own",
    )


class _Editing(BaseModel):
    experimental: bool = Field(
        default=False,
        description="whether a photograph may be edited in directions that the model lists as experimental: by its own "
        "evaluation, such edits mostly fail, or look less real than the photograph did",
    )


class EncodeParameters(_Parameters, _FromPicture, title="EncodeRequest"):
    """Parameters of encode; the picture comes beside them."""

    face: FaceChoice = Field(default="all", description="which face, 0 for the largest, or `all`")
    attributes: Attributes | None = Field(default=None, description="what is known of the face; the rest is estimated")


class GenerateParameters(_Pictures, title="GenerateRequest"):
    """Parameters of generate."""

    attributes: Attributes = Field(default_factory=dict)
    count: Integer = Field(default=1, ge=1, description="number of faces")
    seed: Seed | None = Field(default=None, description="the same seed gives the same faces")
    temperature: Scalar = Field(
        default=TEMPERATURE, ge=0, le=2, description="spread of the faces; 0 gives the mean face"
    )
    latents: Annotated[Vectors, Field(min_length=1)] | None = Field(
        default=None, description="explicit latents instead of drawn ones; sets the count"
    )
    size: Annotated[Integer, _between(16, 1024)] | None = Field(
        default=None, description="side of each picture in pixels; the model's own if left out"
    )


class FaceEdit(BaseModel, title="FaceEdit"):
    """What is to be changed in one face of a photograph."""

    model_config = ConfigDict(extra="forbid")

    face: Integer = Field(ge=0, description="which face, 0 for the largest")
    attributes: Attributes
    strength: Scalar = Field(default=1.0, ge=0, le=2)


FaceEdits = Annotated[list[FaceEdit], Field(fail_fast=True), BeforeValidator(_few), BeforeValidator(_from_text)]


class EditParameters(_Pictures, _FromPicture, _Editing, title="EditRequest"):
    """Parameters of edit; the picture comes beside them, or `latent` and `source_attributes` replace it."""

    attributes: Attributes
    strength: Scalar = Field(default=1.0, ge=0, le=2, description="0 changes nothing, 1 goes all the way, 2 beyond")
    face: FaceChoice = Field(default=0, description="which face, 0 for the largest, or `all`")
    output: Literal["photo", "face"] | None = Field(
        default=None,
        description="`photo`, the default with a picture: that picture, edited; `face`, the default with a latent: the "
        "edited face as the model draws it",
    )
    others: FaceEdits = Field(
        default_factory=list, description="further faces that are edited in the same photograph, each in its own way"
    )
    variants: Variants = Field(
        default_factory=list,
        description="gives one picture for each: `attributes` with these beside them, and instead where both name one",
    )
    region: Region | None = Field(default=None, description="gives only this part of the photograph")
    size: Annotated[Integer, _between(16, 4096)] | None = Field(
        default=None,
        description="longest side of a photograph in pixels at most; left out, its own, "
        f"and {_VARIANT_SIZE} for variants",
    )
    latent: Vector | None = Field(default=None, description="of a face that was encoded before")
    keep_metadata: bool = Field(
        default=False,
        description="whether an edited photograph keeps its EXIF data, which tell of places and devices",
    )
    source_attributes: Attributes | None = Field(
        default=None,
        description="what the face shows before the edit; estimated from a picture if left out, required with a latent",
    )

    @property
    def bare(self) -> bool:
        """Whether the face alone comes back, not the photograph that it is in."""
        return self.output == "face" or self.latent is not None

    @property
    def view_size(self) -> int | None:
        """Longest side of each picture in pixels, at most; None is the photograph's own."""
        return self.size or (_VARIANT_SIZE if self.variants else None)


class SweepParameters(_Pictures, _FromPicture, _Editing, title="SweepRequest"):
    """Parameters of sweep; the face is a picture's, a latent's, or one drawn from `seed` and `attributes`."""

    attribute: Names = Field(description="one attribute, or two for a grid")
    target: Scalar = Field(default=1.0, ge=-2, le=2, description="the attribute's value at t = 1")
    start: Scalar = Field(default=0.0, ge=-2, le=2, description="the first t; 0 is the face as it is")
    stop: Scalar = Field(default=1.0, ge=-2, le=2, description="the last t")
    steps: Integer = Field(default=7, ge=2, description="values of t, first and last included")
    layout: Literal["strip", "frames", "animation"] = Field(
        default="strip", description="one labelled picture, an archive of pictures, or a film that goes there and back"
    )
    size: Integer = Field(default=256, ge=16, le=1024, description="longest side of each picture, in pixels")
    region: Region | None = Field(default=None, description="shows only this part of the photograph")
    milliseconds: Integer = Field(default=120, ge=20, le=5000, description="of each frame of an animation")
    face: Integer = Field(default=0, ge=0, description="which face, 0 for the largest")
    output: Literal["photo", "face"] | None = Field(
        default=None, description="`photo`, the default with a picture, or the bare `face` as the model draws it"
    )
    latent: Vector | None = Field(default=None, description="of a face that was encoded before")
    source_attributes: Attributes | None = Field(
        default=None,
        description="what the face shows before; estimated from a picture if left out, required with a latent",
    )
    seed: Seed | None = Field(default=None, description="a generated face, without a picture")
    attributes: Attributes = Field(default_factory=dict, description="of the generated face; the rest is drawn")


class PhotoParameters(BaseModel, title="PhotoRequest"):
    """Photos has no parameters; the picture comes alone."""

    model_config = ConfigDict(extra="forbid")


class VerifyParameters(BaseModel, title="VerifyRequest"):
    """Verify has no parameters; the picture comes alone."""

    model_config = ConfigDict(extra="forbid")


Parameters = TypeVar("Parameters", bound=BaseModel)
_MOST_ERRORS = 20
# FastAPI's word for where it looked, and the tags of a union: parts of a location that no client wrote.
_NOT_FIELDS = {"body", "query", "path", *ATTRIBUTE_FORMS}


def parse(schema: type[Parameters], values: Mapping[str, Any]) -> Parameters:
    """The parameters of an operation from their values by name. Raises a 422 Problem for those that break a rule."""
    if len(values) > _MOST_PARAMETERS:
        raise invalid("body", f"{len(values)} parameters", f"must have at most {_MOST_PARAMETERS} parameters")
    try:
        return schema.model_validate(values)
    except ValidationError as exc:
        raise from_validation(list(exc.errors())) from exc


def from_validation(errors: list[Any]) -> Problem:
    """Pydantic's errors as one 422."""
    listed = []
    for error in errors[:_MOST_ERRORS]:
        location = [str(part) for part in error["loc"] if part not in _NOT_FIELDS]
        missing = error["type"] == "missing"
        listed.append(
            {
                "field": ".".join(location)[:LONGEST_VALUE] or "body",
                "rule": rule_of(error),
            }
            | ({} if missing else {"value": _value(error)})
        )
    if len(errors) > _MOST_ERRORS:
        listed.append({"field": "body", "rule": f"{len(errors) - _MOST_ERRORS} more errors"})
    detail = "; ".join(f"{error['field']}: {error['rule']}" for error in listed[:3])
    return Problem(422, detail, listed)


def _value(error: Any) -> Any:
    """The value that is wrong. Of a field that there is not, which may hold a picture, only a short one."""
    value = error.get("input")
    if error["type"] == "extra_forbidden" and len(str(value)) > LONGEST_VALUE:
        return f"{len(str(value))} characters"
    return printable(value)
