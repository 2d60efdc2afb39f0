"""What responses say; the OpenAPI document is made from these. Free of any web framework."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, Field

from service.inference.model import Model
from service.pipeline.encode import EncodedPicture
from service.pipeline.pictures import Pictures
from service.provenance import watermark
from service.provenance.marking import ProvenanceReport

_NO_PROOF = "Marks can be removed and forged; that none was found does not show that a picture is a photograph."


class Face(BaseModel):
    """One encoded face; `box` is left, top, right, bottom in pixels of the upright picture."""

    box: tuple[float, float, float, float]
    landmarks: list[tuple[float, float]] | None = Field(
        description="left eye, right eye, nose, left and right mouth corner; null for a face that was framed already"
    )
    score: float | None = Field(description="the detector's, 0 to 1; null for a face that was framed already")
    latent: list[float]
    log_variance: list[float]
    attributes: dict[str, float]


class EncodeResponse(BaseModel):
    """What a picture shows."""

    model: str
    width: int
    height: int
    faces: list[Face]

    @classmethod
    def of(cls, found: EncodedPicture) -> EncodeResponse:
        faces = [
            Face(
                box=face.location.box,
                landmarks=None if face.location.landmarks is None else [*map(_floats, face.location.landmarks)],
                score=face.location.score,
                latent=_floats(face.latent),
                log_variance=_floats(face.log_variance),
                attributes=_by_name(face.attributes),
            )
            for face in found.faces
        ]
        return cls(model=found.model, width=found.width, height=found.height, faces=faces)


class PhotoResponse(BaseModel):
    """A kept photograph."""

    photo: str = Field(description="its handle, for the parameter of that name")
    seconds: float = Field(description="how long it is kept after its last use, unless others take its room")


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

    @classmethod
    def of(cls, found: Pictures) -> PicturesResponse:
        """Of pictures that tell their attributes."""
        images = [
            PictureResponse(
                media_type=picture.media_type,
                width=picture.width,
                height=picture.height,
                data=base64.b64encode(picture.data).decode(),
                digital_source_type=picture.source_type,
                attributes=_by_name(picture.attributes),
            )
            for picture in found.pictures
        ]
        return cls(model=found.model, seed=found.seed, images=images)


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

    @classmethod
    def of(cls, report: ProvenanceReport) -> VerifyResponse:
        score = round(report.score or 0.0, 2)
        mark = WatermarkResponse(found=report.watermarked, score=score, threshold=watermark.THRESHOLD)
        return cls(
            width=report.width,
            height=report.height,
            synthetic=report.synthetic,
            facet=report.facet,
            checked=report.checked,
            xmp=None if report.mark is None else XmpResponse(**asdict(report.mark)),
            c2pa=None if report.c2pa_manifest is None else C2paResponse(**asdict(report.c2pa_manifest)),
            watermark=None if report.score is None else mark,
            note=_NO_PROOF,
        )


class AttributeResponse(BaseModel):
    """One attribute of a model."""

    name: str
    description: str
    group: str | None
    sensitive: bool
    aliases: list[str] = Field(description="other names that requests may use; letter case and spaces do not count")
    opposites: list[str] = Field(description="names of its absence: a value of one is this one's, negated")
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

    @classmethod
    def of(cls, model: Model, default_model: str) -> ModelResponse:
        """Of a loaded model; `default_model` is the name of the one that answers requests without a name."""
        manifest = model.manifest
        return cls(
            name=manifest.name,
            version=manifest.version,
            description=manifest.description,
            default=manifest.name == default_model,
            device=model.runtime.device,
            image_size=manifest.frame.image_size,
            editor_size=None if manifest.editor_frame is None else manifest.editor_frame.image_size,
            aligned_size=manifest.frame.aligned_size,
            latent_size=manifest.latent_size,
            attributes=[
                AttributeResponse(**a.model_dump(exclude={"gain"}), enabled=a.name not in model.disabled)
                for a in manifest.attributes
            ],
            weights_licence=manifest.weights_licence,
            evaluation=manifest.evaluation,
        )


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


def _by_name(attributes: dict[str, float]) -> dict[str, float]:
    return dict(zip(attributes, _floats(attributes.values()), strict=True))


def _floats(values: Iterable[float]) -> list[float]:
    """Numbers for JSON, to six decimals."""
    return [round(float(value), 6) for value in values]
