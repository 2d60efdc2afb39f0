"""The operations on faces over HTTP. Each handler reads parameters, calls the pipeline, and writes the response."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from service.api import negotiation, openapi, responses, uploads
from service.api.compression import packed
from service.api.negotiation import Representation
from service.api.schemas import EncodeResponse, PhotoResponse, PicturesResponse, VerifyResponse
from service.api.service import Admitted, Shared
from service.pipeline.edit import edit_picture
from service.pipeline.encode import encode_picture
from service.pipeline.files import FileOptions
from service.pipeline.generate import generate_faces
from service.pipeline.keep import keep_photo
from service.pipeline.parameters import (
    EditParameters,
    EncodeParameters,
    GenerateParameters,
    PhotoParameters,
    SweepParameters,
    VerifyParameters,
)
from service.pipeline.sweep import sweep_face
from service.pipeline.verify import verify_picture

router = APIRouter(tags=["Faces"])

_PICTURES = {negotiation.MEDIA_TYPES[kind]: openapi.BINARY for kind in negotiation.PICTURE if kind != "json"}
_PICTURE_RESPONSES = {200: {"model": PicturesResponse, "content": _PICTURES}}
_SWEEP_OFFERS = {
    "strip": negotiation.PICTURE,
    "frames": negotiation.ARCHIVE,
    "animation": negotiation.ANIMATION,
}
_SWEEP_TYPES = {negotiation.MEDIA_TYPES[kind] for offers in _SWEEP_OFFERS.values() for kind in offers if kind != "json"}
_SWEEP_RESPONSES = {200: {"model": PicturesResponse, "content": dict.fromkeys(sorted(_SWEEP_TYPES), openapi.BINARY)}}
_WORK_PROBLEMS = openapi.problems(400, 401, 403, 404, 406, 413, 415, 422, 429, 500, 503, 504)
_PHOTO_PROBLEMS = _WORK_PROBLEMS | openapi.problems(410)  # of calls that may name a kept photograph


@router.post(
    "/v1/encode",
    response_model=EncodeResponse,
    responses=_PHOTO_PROBLEMS,
    openapi_extra=openapi.upload_body(EncodeParameters, ("photo",), framed=True),
    summary="What a face shows: latent and attributes",
)
async def encode(request: Request, service: Shared, context: Admitted) -> Response:
    upload = await uploads.read(request)
    params = upload.parameters(EncodeParameters)
    found = responses.encoding(await encode_picture(service, context, params, upload.image))
    return packed(found, request.headers)  # thirty faces have 40,000 numbers


@router.post(
    "/v1/photos",
    response_model=PhotoResponse,
    responses=openapi.problems(400, 401, 403, 404, 413, 415, 422, 429, 503, 504),
    openapi_extra=openapi.upload_body(PhotoParameters),
    summary="Keep a photograph for a while, to name it in later calls",
)
async def keep(request: Request, service: Shared, context: Admitted) -> JSONResponse:
    upload = await uploads.read(request)
    upload.parameters(PhotoParameters)
    return responses.photo(keep_photo(service, upload.image), service.photos.seconds)


@router.post(
    "/v1/generate",
    response_model=PicturesResponse,
    responses=_PICTURE_RESPONSES | _WORK_PROBLEMS,
    openapi_extra=openapi.json_body(GenerateParameters, attributes={"Smiling": 1}, seed=7),
    summary="Faces from attributes",
)
async def generate(request: Request, service: Shared, context: Admitted) -> Response:
    accepted = negotiation.choose(request.headers.get("accept", ""))
    params = (await uploads.read_json(request)).parameters(GenerateParameters)
    return responses.pictures(await generate_faces(service, context, params, _files(accepted, params)))


@router.post(
    "/v1/edit",
    response_model=PicturesResponse,
    responses=_PICTURE_RESPONSES | _PHOTO_PROBLEMS,
    openapi_extra=openapi.upload_body(
        EditParameters, ("photo",), ("latent", "source_attributes"), framed=True, attributes={"Eyeglasses": 1}
    ),
    summary="Change the attributes of a face",
)
async def edit(request: Request, service: Shared, context: Admitted) -> Response:
    accepted = negotiation.choose(request.headers.get("accept", ""))
    upload = await uploads.read(request)
    params = upload.parameters(EditParameters)
    return responses.pictures(await edit_picture(service, context, params, upload.image, _files(accepted, params)))


@router.post(
    "/v1/sweep",
    response_model=PicturesResponse,
    responses=_SWEEP_RESPONSES | _PHOTO_PROBLEMS,
    openapi_extra=openapi.upload_body(
        SweepParameters,
        ("photo",),
        ("seed",),
        ("latent", "source_attributes"),
        framed=True,
        attribute="Eyeglasses",
        steps=3,
    ),
    summary="An attribute changed gradually",
)
async def sweep_attribute(request: Request, service: Shared, context: Admitted) -> Response:
    upload = await uploads.read(request)
    params = upload.parameters(SweepParameters)
    accepted = negotiation.choose(request.headers.get("accept", ""), _SWEEP_OFFERS[params.layout])
    return responses.pictures(await sweep_face(service, context, params, upload.image, _files(accepted, params)))


def _files(
    accepted: tuple[Representation, ...], params: GenerateParameters | EditParameters | SweepParameters
) -> FileOptions:
    """How pictures are encoded for a response: JSON holds any number of files, everything else is one."""
    if accepted[0] == "json":
        return FileOptions.of(params)
    formats = tuple(name for name in accepted if name != "json")
    if accepted[0] == "zip" or ("format" in params.model_fields_set and params.format in formats):
        formats = (params.format,)
    return FileOptions(formats, params.quality, as_one=True)


@router.post(
    "/v1/verify",
    response_model=VerifyResponse,
    responses=openapi.problems(400, 401, 403, 413, 415, 422, 429, 503, 504),
    openapi_extra=openapi.upload_body(VerifyParameters),
    summary="What a picture says about its origin",
)
async def verify(request: Request, service: Shared, context: Admitted) -> JSONResponse:
    upload = await uploads.read(request)
    upload.parameters(VerifyParameters)
    return responses.report(await verify_picture(service, context, upload.image))
