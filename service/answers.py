"""What goes back to the client: pictures as bytes, or JSON that holds them."""

from __future__ import annotations

import base64
from dataclasses import asdict

import numpy as np
from fastapi.responses import JSONResponse, Response

from service import images, negotiation, sweep, watermark
from service.context import Work
from service.models import Model
from service.photo import PhotoEdit
from service.photographs import Photograph
from service.provenance import Findings, Origin
from service.schemas import (
    C2paResponse,
    EditRequest,
    GenerateRequest,
    PictureResponse,
    PicturesResponse,
    SweepRequest,
    VerifyResponse,
    WatermarkResponse,
    XmpResponse,
)

_NO_PROOF = "Marks can be removed and forged; that none was found does not show that a picture is a photograph."


async def faces(
    work: Work,
    wanted: negotiation.Representation,
    asked: GenerateRequest | EditRequest,
    drawn: np.ndarray,
    attributes: np.ndarray,
    seed: int | None = None,
    original: bytes | None = None,
) -> Response:
    """Faces uint8 [N, S, S, 3] with their `attributes` f32 [N, K]: one picture (several as a grid), or JSON.

    They are drawn whole, or edits of a photograph, the `original`.
    """
    origin = work.origin(original)
    if wanted != "json":
        sheet = drawn[0] if len(drawn) == 1 else images.grid(drawn)
        with work.call.stage("encode"):
            data = await work.service.encoded(sheet.size, origin.encode, sheet, wanted, asked.quality)
        return Response(data, media_type=negotiation.MEDIA_TYPES[wanted])
    with work.call.stage("encode"):
        encoded = await work.service.encoded(
            drawn.size, lambda: [origin.encode(face, asked.format, asked.quality) for face in drawn]
        )
    pictures = [
        _picture(work, origin, asked.format, data, face.shape[1], face.shape[0], row)
        for face, data, row in zip(drawn, encoded, attributes, strict=True)
    ]
    return _json(work, seed, pictures)


async def edited_photo(
    work: Work,
    photograph: Photograph,
    wanted: negotiation.Representation,
    asked: EditRequest,
    edits: list[PhotoEdit | None],
    attributes: np.ndarray,
) -> Response:
    """The photograph with its faces edited; `attributes` f32 [N, K] are those after. JSON tells those of the first."""
    kind = asked.format if wanted == "json" else wanted
    origin = work.origin(photograph.data)

    def paste_and_encode() -> tuple[bytes, tuple[int, int]]:
        with work.call.stage("decode"):
            picture = photograph.whole()
        with work.call.stage("paste"):
            meant = [edit for edit in edits if edit is not None]
            grey = bool(meant) and picture.is_grey
            for edit in meant:
                edit.onto(picture.image, grey)
        with work.call.stage("encode"):
            return origin.encode_photo(picture, kind, asked.quality), picture.image.size

    encoded, (width, height) = await work.service.in_codec_thread(paste_and_encode)
    if wanted != "json":
        return Response(encoded, media_type=negotiation.MEDIA_TYPES[wanted])
    return _json(work, None, [_picture(work, origin, kind, encoded, width, height, attributes[0])])


async def swept(
    work: Work,
    wanted: negotiation.Representation,
    asked: SweepRequest,
    plan: sweep.Plan,
    steps: np.ndarray | list[PhotoEdit | None],
    original: bytes | None,
    seed: int | None,
) -> Response:
    """A sweep in the asked layout. `steps` are bare faces uint8 [T, S, S, 3], or edits of the photograph `original`.

    Bare faces may be those of a photograph, too.
    """
    origin = work.origin(original)
    kind = wanted if wanted not in ("json", "zip") else "webp" if asked.layout == "animation" else asked.format

    def lay_out() -> tuple[list[bytes], tuple[int, ...]]:
        greyscale = False
        if isinstance(steps, np.ndarray):
            frames = sweep.enlarged(steps, asked.size)
        else:
            with work.call.stage("decode"):
                picture = images.decode_photo(original, work.service.settings.max_image_pixels)
            with work.call.stage("paste"):
                frames, greyscale = sweep.on_photo(picture, steps, asked.size), picture.greyscale

        def in_mode(pixels: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(pixels[:, :, 0]) if greyscale else pixels

        with work.call.stage("encode"):
            if asked.layout == "animation":
                return [origin.animation(frames, kind, asked.milliseconds, asked.quality)], frames.shape[1:]
            if asked.layout == "strip":
                sheet = sweep.strip(frames, plan, asked)
                return [origin.encode(in_mode(sheet), kind, asked.quality)], sheet.shape
            pictures = [origin.encode(in_mode(frame), kind, asked.quality) for frame in frames]
            return [sweep.archive(pictures, kind)] if wanted == "zip" else pictures, frames.shape[1:]

    encoded, (height, width, _) = await work.service.in_codec_thread(lay_out)
    if wanted != "json":
        return Response(encoded[0], media_type=negotiation.MEDIA_TYPES[wanted])
    shown = plan.attributes.reshape(-1, plan.attributes.shape[-1])
    # One picture of all steps tells what the last one shows.
    shown = shown if len(encoded) == len(shown) else shown[-1:]
    return _json(
        work,
        seed,
        [_picture(work, origin, kind, data, width, height, row) for data, row in zip(encoded, shown, strict=True)],
    )


def findings(found: Findings) -> JSONResponse:
    """What was found of a picture's origin."""
    told = WatermarkResponse(found=found.watermarked, score=round(found.score or 0.0, 2), threshold=watermark.THRESHOLD)
    body = VerifyResponse(
        width=found.width,
        height=found.height,
        synthetic=found.synthetic,
        facet=found.facet,
        checked=found.checked,
        xmp=None if found.mark is None else XmpResponse(**asdict(found.mark)),
        c2pa=None if found.statement is None else C2paResponse(**asdict(found.statement)),
        watermark=None if found.score is None else told,
        note=_NO_PROOF,
    )
    return JSONResponse(body.model_dump())


def _picture(
    work: Work, origin: Origin, kind: images.OutputFormat, data: bytes, width: int, height: int, attributes: np.ndarray
) -> PictureResponse:
    return PictureResponse(
        media_type=negotiation.MEDIA_TYPES[kind],
        width=width,
        height=height,
        data=base64.b64encode(data).decode(),
        digital_source_type=origin.source_type,
        attributes=by_name(work.model, attributes),
    )


def _json(work: Work, seed: int | None, pictures: list[PictureResponse]) -> JSONResponse:
    return JSONResponse(PicturesResponse(model=work.model.identity, seed=seed, images=pictures).model_dump())


def by_name(model: Model, values: np.ndarray) -> dict[str, float]:
    """Attribute values [K] as JSON tells them, without those that are withheld."""
    named = zip(model.manifest.attribute_names, floats(values), strict=True)
    return {name: value for name, value in named if name not in model.withheld}


def floats(values: np.ndarray) -> list[float]:
    """Numbers for JSON, to six decimals."""
    return [round(float(value), 6) for value in values]
