"""What requests may say and responses do say; the OpenAPI document is made from these."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

MAX_SEED = 2**53 - 1  # the largest integer that every JSON reader keeps exact
# Spread of generated faces: below 1 they differ less than real ones, and fewer are odd.
TEMPERATURE = 0.7
# -1 absent, +1 present; a little beyond is an exaggeration that decoders still draw.
LEVEL_LIMIT = 2.0
LATENT_LIMIT = 1e3


def _from_text(value: Any) -> Any:
    """Form fields and query parameters carry structured values as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError("must be JSON") from None


def _names(value: Any) -> Any:
    """A name is a list of one; in forms and queries a list is JSON text."""
    if isinstance(value, str):
        return _from_text(value) if value.startswith("[") else [value]
    return value


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def _attribute_form(value: Any) -> str:
    return ATTRIBUTE_FORMS[1] if isinstance(value, list) else ATTRIBUTE_FORMS[0]


# Tags of the two forms; they show up in the locations of pydantic's errors, from where `problems` removes them.
ATTRIBUTE_FORMS = ("by-name", "vector")
Number = Annotated[float, Field(strict=True)]
# Checked where the model is known, for errors that name the attribute; here for whoever reads the document.
Level = Annotated[Number, Field(json_schema_extra={"minimum": -LEVEL_LIMIT, "maximum": LEVEL_LIMIT})]
Attributes = Annotated[
    Annotated[dict[str, Level | None], Tag(ATTRIBUTE_FORMS[0])]
    | Annotated[list[Level | None], Tag(ATTRIBUTE_FORMS[1])],
    Discriminator(_attribute_form),
    BeforeValidator(_from_text),
    Field(
        description="attribute values, -1 absent .. +1 present (up to 2 exaggerates): by name, or the whole vector in "
        "the model's order; null where unknown. Sensitive ones only where the operator has enabled them.",
        examples=[{"Smiling": 1, "Eyeglasses": -1}],
    ),
]
Names = Annotated[
    list[str],
    BeforeValidator(_names),
    Field(min_length=1, max_length=2),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
            ]
        }
    ),
]
Coordinate = Annotated[Number, Field(json_schema_extra={"minimum": -LATENT_LIMIT, "maximum": LATENT_LIMIT})]
Vector = Annotated[list[Coordinate], BeforeValidator(_from_text)]
Vectors = Annotated[list[Vector], BeforeValidator(_from_text)]
Scalar = Annotated[float, BeforeValidator(_not_boolean), Field(allow_inf_nan=False)]
Integer = Annotated[int, BeforeValidator(_not_boolean)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED), BeforeValidator(_not_boolean)]


FaceChoice = Annotated[int, Field(ge=0), BeforeValidator(_not_boolean)] | Literal["all"]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(default=None, description="name of a loaded bundle; the default one if left out")


class _Pictures(_Request):
    format: Literal["png", "jpeg", "webp"] = Field(
        default="png", description="of the pictures inside a JSON response; otherwise `Accept` decides"
    )
    quality: Integer = Field(default=90, ge=1, le=100, description="for JPEG and WebP")


class _FromPicture(BaseModel):
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


class EncodeRequest(_Request, _FromPicture):
    """Parameters of encode; the picture comes beside them."""

    face: FaceChoice = Field(default="all", description="which face, 0 for the largest, or `all`")
    attributes: Attributes | None = Field(default=None, description="what is known of the face; the rest is estimated")


class GenerateRequest(_Pictures):
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


class EditRequest(_Pictures, _FromPicture, _Editing):
    """Parameters of edit; the picture comes beside them, or `latent` and `source_attributes` replace it."""

    attributes: Attributes
    strength: Scalar = Field(default=1.0, ge=0, le=2, description="0 changes nothing, 1 goes all the way, 2 beyond")
    face: FaceChoice = Field(default=0, description="which face, 0 for the largest, or `all`")
    output: Literal["photo", "face"] | None = Field(
        default=None,
        description="`photo`, the default with a picture: that picture, edited; `face`, the default with a latent: the "
        "edited face as the model draws it",
    )
    latent: Vector | None = Field(default=None, description="of a face that was encoded before")
    source_attributes: Attributes | None = Field(
        default=None,
        description="what the face shows before the edit; estimated from a picture if left out, required with a latent",
    )


class SweepRequest(_Pictures, _FromPicture, _Editing):
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


class Face(BaseModel):
    """One encoded face; `box` is left, top, right, bottom in pixels of the upright picture."""

    box: tuple[float, float, float, float]
    landmarks: list[tuple[float, float]] | None = Field(
        description="left eye, right eye, nose, left and right mouth corner; null for a face that was framed already"
    )
    latent: list[float]
    log_variance: list[float]
    attributes: dict[str, float]


class EncodeResponse(BaseModel):
    """What a picture shows."""

    model: str
    width: int
    height: int
    faces: list[Face]


class PictureResponse(BaseModel):
    """One picture, base64-encoded."""

    media_type: str
    width: int
    height: int
    data: str
    digital_source_type: str = Field(description="IPTC's term for what a model drew of it; the file says the same")
    attributes: dict[str, float]


class PicturesResponse(BaseModel):
    """Pictures as JSON."""

    model: str
    seed: int | None = None
    images: list[PictureResponse]


class VerifyRequest(BaseModel):
    """Verify has no parameters; the picture comes alone."""

    model_config = ConfigDict(extra="forbid")


class XmpResponse(BaseModel):
    """What a picture's XMP says, null where it says nothing. Anybody can write it, and remove it."""

    digital_source_type: str | None
    system: str | None
    version: str | None
    tool: str | None


class C2paResponse(BaseModel):
    """What a picture's signed manifest says, null where it says nothing."""

    state: str = Field(
        description="`Trusted`: signed by this service; `Valid`: by somebody else; `Invalid`: changed since then"
    )
    issuer: str | None = Field(description="organisation in the signer's certificate")
    generator: str | None = Field(description="program that made the manifest")
    digital_source_types: list[str]
    ingredients: int = Field(description="pictures that this one was made from")
    failures: list[str] = Field(description="C2PA's codes for what does not hold")


class WatermarkResponse(BaseModel):
    """Whether a picture has Facet's invisible mark."""

    found: bool
    score: float = Field(description="about N(0, 1) for pictures without the mark")
    threshold: float = Field(description="from this score on it counts as found")


class VerifyResponse(BaseModel):
    """What a picture says about its origin."""

    width: int
    height: int
    synthetic: Literal[True] | None = Field(
        description="true where something says that a program drew it, or a part of it; else null, for an unmarked "
        "picture may come from anywhere"
    )
    facet: bool = Field(description="whether something names Facet")
    checked: list[str] = Field(
        description="what was looked for: `c2pa` takes a service that has the package for it, `watermark` 64 pixels"
    )
    xmp: XmpResponse | None
    c2pa: C2paResponse | None
    watermark: WatermarkResponse | None
    note: str


class AttributeResponse(BaseModel):
    """One attribute of a model."""

    name: str
    description: str
    group: str | None
    sensitive: bool
    enabled: bool = Field(description="false for a sensitive one that requests may not name and answers do not tell")
    experimental: dict[Literal["added", "removed"], str] = Field(
        description="directions in which photographs are edited only with experimental=true, and why"
    )


class ModelResponse(BaseModel):
    """A loaded model."""

    name: str
    version: str
    description: str
    default: bool
    device: str
    image_size: int
    editor_size: int | None = Field(
        description="side of a face of a photograph as the editor sees it; null without one"
    )
    aligned_size: tuple[int, int]
    latent_size: int
    attributes: list[AttributeResponse]
    weights_licence: str
    evaluation: dict[str, Any]


class ModelsResponse(BaseModel):
    """Every loaded model."""

    models: list[ModelResponse]


class ProblemError(BaseModel):
    """One thing that is wrong with a request."""

    field: str
    rule: str
    value: Any = None
    suggestions: list[str] = []


class ProblemResponse(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemError] = []


class HealthResponse(BaseModel):
    """`ok`, or what is wrong."""

    status: str
