"""The REST interface. Each handler reads as its pipeline: parameters, decode, frame, batch, encode, response."""

from __future__ import annotations

import random
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from service import answers, editing, experimental, images, negotiation, openapi, provenance, sources, uploads, vectors
from service.answers import by_name, floats
from service.calls import Call
from service.context import NEEDED, Service, Work
from service.models import Model
from service.problems import invalid
from service.schemas import (
    MAX_SEED,
    AttributeResponse,
    EditRequest,
    EncodeRequest,
    EncodeResponse,
    Face,
    GenerateRequest,
    ModelResponse,
    ModelsResponse,
    PicturesResponse,
    SweepRequest,
    VerifyRequest,
    VerifyResponse,
)
from service.sweep import Plan


# Coroutines, although they wait for nothing: FastAPI runs plain functions in a thread, and a request would wait for it.
async def _service(request: Request) -> Service:
    return request.app.state.service


async def _call(request: Request) -> Call:
    return request.state.call


async def _admitted(request: Request) -> Call:
    return _parts(request)[1]


Shared = Annotated[Service, Depends(_service)]
Current = Annotated[Call, Depends(_call)]
Admitted = Annotated[Call, Depends(_admitted)]

router = APIRouter(tags=["Faces"])
# Their handlers take nothing but the request, so that `service.shortcut` can call them.
BUSY = tuple(NEEDED)


def _parts(request: Request) -> tuple[Service, Call]:
    """What the handlers of BUSY would otherwise depend on: the service, and the call of who may have work done.

    Raises Problem 401, 403, 413 or 429, before anything of the body is read.
    """
    service, call = request.app.state.service, request.state.call
    service.access.admit(request, call)
    return service, call


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


@router.post(
    "/v1/encode",
    response_model=EncodeResponse,
    responses=_WORK_PROBLEMS,
    openapi_extra=openapi.upload_body(EncodeRequest),
    summary="What a face shows: latent and attributes",
)
async def encode(request: Request) -> JSONResponse:
    service, call = _parts(request)
    upload = await uploads.read(request)
    asked = upload.parameters(EncodeRequest)
    work = service.work(call, asked.model, "encoder")
    known = work.attributes(asked.attributes or {}, exclusive=False)
    found = await sources.encoded(work, work.photograph(upload.picture()), asked, known)
    call.count("encode", len(found.places))
    faces = [
        Face(
            box=place.box,
            landmarks=None if place.landmarks is None else [tuple(floats(point)) for point in place.landmarks],
            latent=floats(mean),
            log_variance=floats(log_variance),
            attributes=by_name(work.model, attributes),
        )
        for place, mean, log_variance, attributes in zip(
            found.places, found.mean, found.log_variance, found.attributes, strict=True
        )
    ]
    body = EncodeResponse(model=work.model.identity, width=found.width, height=found.height, faces=faces)
    return JSONResponse(body.model_dump())


@router.post(
    "/v1/generate",
    response_model=PicturesResponse,
    responses=_PICTURE_RESPONSES | _WORK_PROBLEMS,
    openapi_extra=openapi.json_body(GenerateRequest),
    summary="Faces from attributes",
)
async def generate(request: Request) -> Response:
    service, call = _parts(request)
    wanted = negotiation.choose(request.headers.get("accept", ""))
    asked = (await uploads.read_json(request)).parameters(GenerateRequest)
    work = service.work(call, asked.model, images=asked.count if asked.latents is None else len(asked.latents))
    vector = work.attributes(asked.attributes)
    seed = random.randrange(MAX_SEED + 1) if asked.seed is None else asked.seed
    if asked.latents is None:
        _check_count("count", asked.count, service.settings.max_count)
        attributes = work.model.sampler.attributes(vector, seed, asked.count)
        latent = work.model.sampler.latents(seed, attributes, asked.temperature)
    else:
        _check_count("latents", len(asked.latents), service.settings.max_count)
        names = [f"latents.{row}" for row in range(len(asked.latents))]
        latent = vectors.latent_matrix(asked.latents, work.model.manifest, names)
        attributes = work.model.sampler.attributes(vector, seed, len(latent))
    call.charge(len(latent))
    drawn = await work.model.decode(latent, attributes, call)
    call.count("generate", len(drawn))
    call.headers["X-Facet-Seed"] = str(seed)
    return await answers.faces(work, wanted, asked, drawn, attributes, seed)


@router.post(
    "/v1/edit",
    response_model=PicturesResponse,
    responses=_PICTURE_RESPONSES | _WORK_PROBLEMS,
    openapi_extra=openapi.upload_body(EditRequest, ("latent", "source_attributes")),
    summary="Change the attributes of a face",
)
async def edit(request: Request) -> Response:
    service, call = _parts(request)
    wanted = negotiation.choose(request.headers.get("accept", ""))
    upload = await uploads.read(request)
    asked = upload.parameters(EditRequest)
    bare = asked.output == "face" or asked.latent is not None
    graph = "editor" if asked.latent is None else "decoder"
    work = service.work(call, asked.model, graph, unedited=0 if bare else 1)
    named = work.attributes(asked.attributes)
    target = vectors.edit_target(named, work.model.manifest)
    known = _source_attributes(work, asked)
    if asked.latent is None:
        photograph = work.photograph(upload.picture(), to_edit=not bare)
        faces = await editing.faces_of(work, photograph, asked, known)
    else:
        faces = editing.latent_face(work, *sources.given(work, upload, asked, known))
    attributes = vectors.edited(faces.shown, target, asked.strength)
    if asked.latent is None and not asked.experimental:
        experimental.refuse_edit(work.model.manifest, named, faces.shown, attributes)
    call.count("edit", len(attributes))
    if bare:
        drawn = await faces.bare(attributes)
        return await answers.faces(work, wanted, asked, drawn, attributes, original=faces.original)
    edits = await faces.edits(attributes)
    wanted = negotiation.choose(request.headers.get("accept", ""), preferred=images.format_of(upload.image))
    return await answers.edited_photo(work, photograph, wanted, asked, edits, attributes)


@router.post(
    "/v1/sweep",
    response_model=PicturesResponse,
    responses=_SWEEP_RESPONSES | _WORK_PROBLEMS,
    openapi_extra=openapi.upload_body(SweepRequest, ("seed",), ("latent", "source_attributes")),
    summary="An attribute changed gradually",
)
async def sweep_attribute(request: Request) -> Response:
    service, call = _parts(request)
    upload = await uploads.read(request)
    asked = upload.parameters(SweepRequest)
    wanted = negotiation.choose(request.headers.get("accept", ""), _SWEEP_OFFERS[asked.layout])
    graph = "editor" if upload.image is not None else "decoder"
    work = service.work(call, asked.model, graph, asked.steps, unedited=1)
    work.model.withheld.refuse_names(asked.attribute, "attribute")
    face = await _swept_face(work, upload, asked)
    plan = Plan.make(face.shown, asked, work.model.manifest)
    attributes = plan.attributes.reshape(-1, face.shown.shape[1])
    _check_count("steps", len(attributes), service.settings.max_count)
    if len(attributes) * asked.size**2 > service.settings.max_image_pixels:
        raise invalid("size", asked.size, f"{len(attributes)} pictures of that size are too many pixels")
    if upload.image is not None and not asked.experimental:
        named = [(name, "attribute", name) for name in asked.attribute]
        experimental.refuse(work.model.manifest, named, face.shown, attributes)
    call.charge(len(attributes))
    on_photo = upload.image is not None and asked.output != "face"
    steps = await (face.edits if on_photo else face.bare)(attributes)
    call.count("sweep", len(attributes))
    original = upload.image if on_photo else face.original
    return await answers.swept(work, wanted, asked, plan, steps, original, asked.seed)


async def _swept_face(work: Work, upload: uploads.Upload, asked: SweepRequest) -> editing.Faces:
    """The one face to sweep: from a picture, a latent, or drawn by the sampler."""
    known = _source_attributes(work, asked)
    if asked.latent is not None:
        return editing.latent_face(work, *sources.given(work, upload, asked, known))
    if upload.image is not None:
        if asked.seed is not None:
            raise invalid("seed", asked.seed, "cannot be given together with an image")
        return await editing.faces_of(work, work.photograph(upload.picture()), asked, known)
    if asked.seed is None:
        raise invalid(uploads.IMAGE_FIELD, None, "is required, or a latent, or a seed")
    shown = work.model.sampler.attributes(work.attributes(asked.attributes), asked.seed, 1)
    work.call.headers["X-Facet-Seed"] = str(asked.seed)
    return editing.latent_face(work, work.model.sampler.latents(asked.seed, shown), shown)


@router.post(
    "/v1/verify",
    response_model=VerifyResponse,
    responses=openapi.problems(400, 401, 403, 413, 415, 422, 429, 503, 504),
    openapi_extra=openapi.upload_body(VerifyRequest),
    summary="What a picture says about its origin",
)
async def verify(request: Request, service: Shared, call: Admitted) -> JSONResponse:
    upload = await uploads.read(request)
    upload.parameters(VerifyRequest)
    uploaded = upload.picture()

    def examine() -> provenance.Findings:
        with call.stage("decode"):
            return provenance.examine(uploaded, service.settings.max_image_pixels, service.credentials)

    return answers.findings(await service.in_codec_thread(examine))


def _source_attributes(work: Work, asked: EditRequest | SweepRequest) -> np.ndarray:
    """What the face is said to show before, f32 [K], NaN where nothing is said. Raises Problems."""
    return work.attributes(asked.source_attributes or {}, "source_attributes", exclusive=False)


@router.get(
    "/v1/models", response_model=ModelsResponse, responses=openapi.problems(401, 403, 503), summary="Loaded models"
)
async def list_models(request: Request, service: Shared, call: Current) -> ModelsResponse:
    service.access.check(request, call, "use")
    return ModelsResponse(models=[described(service, model) for model in service.models.all()])


@router.get(
    "/v1/models/{name}",
    response_model=ModelResponse,
    responses=openapi.problems(401, 403, 404, 422, 503),
    summary="One model",
)
async def describe_model(name: str, request: Request, service: Shared, call: Current) -> ModelResponse:
    service.access.check(request, call, "use")
    return described(service, service.models.get(name))


def _check_count(field: str, count: int, largest: int) -> None:
    if count > largest:
        raise invalid(field, count, f"at most {largest} faces in one request")


def described(service: Service, model: Model) -> ModelResponse:
    """What there is to know of a loaded model."""
    manifest = model.manifest
    return ModelResponse(
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        default=manifest.name == service.settings.default_model,
        device=model.runtime.device,
        image_size=manifest.frame.image_size,
        editor_size=None if manifest.editor_frame is None else manifest.editor_frame.image_size,
        aligned_size=manifest.frame.aligned_size,
        latent_size=manifest.latent_size,
        attributes=[
            AttributeResponse(**a.model_dump(exclude={"gain"}), enabled=a.name not in model.withheld)
            for a in manifest.attributes
        ],
        weights_licence=manifest.weights_licence,
        evaluation=manifest.evaluation,
    )
