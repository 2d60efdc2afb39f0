"""The REST interface. Each handler reads as its pipeline: parameters, decode, frame, batch, encode, response."""

from __future__ import annotations

import asyncio
import base64
import http
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from prometheus_client.exposition import choose_encoder

from service import images, negotiation, uploads, vectors
from service.batcher import QueueFullError
from service.bundle import BundleError
from service.calls import Call
from service.latents import Encoded, LatentCache
from service.metrics import Metrics
from service.models import Model, Models, unknown_model
from service.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.problems import Problem, invalid
from service.runtime import RuntimeUnavailableError
from service.schemas import (
    MAX_SEED,
    AttributeResponse,
    EditRequest,
    EncodeRequest,
    EncodeResponse,
    Face,
    GenerateRequest,
    HealthResponse,
    ModelResponse,
    ModelsResponse,
    PictureResponse,
    PicturesResponse,
)
from service.settings import Settings

Result = TypeVar("Result")


@dataclass
class Service:
    """What handlers share: settings, models, metrics, the codec threads, and whether we accept work."""

    settings: Settings
    models: Models
    metrics: Metrics
    codecs: Executor
    latents: LatentCache
    ready: bool = False
    codec_jobs: int = 0

    async def in_codec_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run picture work beside the event loop. Raises QueueFullError where too much of it waits already.

        Work of a caller that is cancelled is dropped if it has not begun, and counts until it has ended.
        """
        if self.codec_jobs >= self.settings.queue_images:
            self.metrics.rejected.labels("codecs_full").inc()
            raise QueueFullError(1.0)
        loop = asyncio.get_running_loop()
        job = self.codecs.submit(work, *arguments)
        self.codec_jobs += 1
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._codec_job_ended))
        return await asyncio.wrap_future(job)

    def _codec_job_ended(self) -> None:
        self.codec_jobs -= 1


# Coroutines, although they wait for nothing: FastAPI runs plain functions in a thread, and a request would wait for it.
async def _service(request: Request) -> Service:
    return request.app.state.service


async def _call(request: Request) -> Call:
    return request.state.call


Shared = Annotated[Service, Depends(_service)]
Current = Annotated[Call, Depends(_call)]

router = APIRouter()
PROBLEM_SCHEMA = "ProblemResponse"


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {PROBLEM_TYPE: {"schema": {"$ref": f"#/components/schemas/{PROBLEM_SCHEMA}"}}}
    return {status: {"description": http.HTTPStatus(status).phrase, "content": content} for status in statuses}


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_IMAGE_TYPES = [kind for kind in negotiation.MEDIA_TYPES.values() if kind.startswith("image/")]
_PICTURES = dict.fromkeys(_IMAGE_TYPES, _BINARY)
_PICTURE_RESPONSES = {200: {"model": PicturesResponse, "content": _PICTURES}}
_WORK_PROBLEMS = _problems(400, 404, 406, 413, 415, 422, 429, 500, 503, 504)


def _body(schema: type, with_json: bool) -> dict[str, Any]:
    """The OpenAPI description of an upload: a form, raw bytes with query parameters, or JSON."""
    described = schema.model_json_schema(ref_template="#/components/schemas/{model}")
    form = {**described, "properties": {uploads.IMAGE_FIELD: _BINARY["schema"], **described["properties"]}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    content |= dict.fromkeys([*_IMAGE_TYPES, "application/octet-stream"], _BINARY)
    if with_json:
        content["application/json"] = {"schema": described}
    query = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": detail.get("description", ""),
            "schema": {"type": "string"},
        }
        for name, detail in described["properties"].items()
    ]
    return {"requestBody": {"required": True, "content": content}, "parameters": query}


def _json_body(schema: type) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema.model_json_schema()}}}}


@router.post(
    "/v1/encode",
    response_model=EncodeResponse,
    responses=_WORK_PROBLEMS,
    openapi_extra=_body(EncodeRequest, with_json=False),
    summary="What a face shows: latent and attributes",
)
async def encode(request: Request, service: Shared, call: Current) -> JSONResponse:
    upload = await uploads.read(request)
    asked = upload.parameters(EncodeRequest)
    model = _model(service, call, asked.model)
    known = vectors.attribute_vector(asked.attributes or {}, model.manifest, exclusive=False)
    found = await _encoded(service, call, upload, known, model)
    service.metrics.images.labels("encode").inc()
    face = Face(
        box=found.box,
        landmarks=None,
        latent=_floats(found.mean),
        log_variance=_floats(found.log_variance),
        attributes=_by_name(model, found.attributes),
    )
    body = EncodeResponse(model=model.identity, width=found.width, height=found.height, faces=[face])
    return JSONResponse(body.model_dump())


@router.post(
    "/v1/generate",
    response_model=PicturesResponse,
    responses=_PICTURE_RESPONSES | _WORK_PROBLEMS,
    openapi_extra=_json_body(GenerateRequest),
    summary="Faces from attributes",
)
async def generate(request: Request, service: Shared, call: Current) -> Response:
    wanted = negotiation.choose(request.headers.get("accept", ""))
    asked = (await uploads.read_json(request)).parameters(GenerateRequest)
    model = _model(service, call, asked.model)
    vector = vectors.attribute_vector(asked.attributes, model.manifest)
    seed = secrets.randbelow(MAX_SEED + 1) if asked.seed is None else asked.seed
    if asked.latents is None:
        _check_count("count", asked.count, service.settings.max_count)
        attributes = model.sampler.attributes(vector, seed, asked.count)
        latent = model.sampler.latents(seed, attributes, asked.temperature)
    else:
        _check_count("latents", len(asked.latents), service.settings.max_count)
        names = [f"latents.{row}" for row in range(len(asked.latents))]
        latent = vectors.latent_matrix(asked.latents, model.manifest, names)
        attributes = model.sampler.attributes(vector, seed, len(latent))
    faces = await model.decode(latent, attributes, call)
    service.metrics.images.labels("generate").inc(len(faces))
    call.headers["X-Facet-Seed"] = str(seed)
    return await _pictures(service, call, wanted, asked.format, asked.quality, model, faces, attributes, seed)


@router.post(
    "/v1/edit",
    response_model=PicturesResponse,
    responses=_PICTURE_RESPONSES | _WORK_PROBLEMS,
    openapi_extra=_body(EditRequest, with_json=True),
    summary="Change the attributes of a face",
)
async def edit(request: Request, service: Shared, call: Current) -> Response:
    wanted = negotiation.choose(request.headers.get("accept", ""))
    upload = await uploads.read(request)
    asked = upload.parameters(EditRequest)
    model = _model(service, call, asked.model)
    target = vectors.edit_target(vectors.attribute_vector(asked.attributes, model.manifest), model.manifest)
    known = vectors.attribute_vector(
        asked.source_attributes or {}, model.manifest, "source_attributes", exclusive=False
    )
    latent, shown = await _source(service, call, upload, asked, known, model)
    attributes = vectors.edited(shown, target, asked.strength)
    faces = await model.decode(latent, attributes, call)
    service.metrics.images.labels("edit").inc()
    return await _pictures(service, call, wanted, asked.format, asked.quality, model, faces, attributes, None)


@router.get("/v1/models", response_model=ModelsResponse, responses=_problems(503), summary="Loaded models")
async def list_models(service: Shared) -> ModelsResponse:
    return ModelsResponse(models=[_describe(service, model) for model in service.models.all()])


@router.get("/v1/models/{name}", response_model=ModelResponse, responses=_problems(404, 422, 503), summary="One model")
async def describe_model(name: str, service: Shared) -> ModelResponse:
    return _describe(service, service.models.get(name))


@router.post(
    "/v1/models/{name}:reload",
    response_model=ModelResponse,
    responses=_problems(401, 403, 404, 409, 422, 503),
    summary="Load a bundle again, or a new one",
)
async def reload_model(name: str, request: Request, service: Shared, call: Current) -> ModelResponse:
    _require_admin(request, service.settings)
    try:
        model = await service.models.reload(name)
    except KeyError:
        raise unknown_model(name, [loaded.manifest.name for loaded in service.models.all()]) from None
    except (BundleError, RuntimeUnavailableError) as exc:
        rule = f"{exc}; the model that was loaded before goes on"
        raise Problem(409, rule, [{"field": "model", "value": name[:80], "rule": str(exc)}]) from exc
    call.headers["X-Facet-Model"] = model.identity
    return _describe(service, model)


def _require_admin(request: Request, settings: Settings) -> None:
    """Raises a 403 Problem where nobody may, 401 where the token is not right."""
    token = settings.admin_token.get_secret_value()
    if not token:
        raise Problem(403, "administration over HTTP is switched off (FACET_ADMIN_TOKEN is not set)")
    offered = request.headers.get("authorization", "")
    if not secrets.compare_digest(offered.encode(), f"Bearer {token}".encode()):
        rule = "the header Authorization must be 'Bearer' and the token"
        raise Problem(401, rule, headers={"WWW-Authenticate": "Bearer"})


@router.get("/healthz", response_model=HealthResponse, responses={503: {"model": HealthResponse}}, summary="Liveness")
async def healthz(service: Shared) -> JSONResponse:
    dead = [model.identity for model in service.models.all() if not model.healthy]
    body = HealthResponse(status=f"the worker of {dead[0]} died" if dead else "ok")
    return JSONResponse(body.model_dump(), 503 if dead else 200)


@router.get("/readyz", response_model=HealthResponse, responses={503: {"model": HealthResponse}}, summary="Readiness")
async def readyz(service: Shared) -> JSONResponse:
    ready = service.ready and all(model.healthy for model in service.models.all())
    return JSONResponse(HealthResponse(status="ok" if ready else "not ready").model_dump(), 200 if ready else 503)


@router.get("/metrics", response_class=PlainTextResponse, summary="Prometheus metrics")
async def metrics(request: Request, service: Shared) -> Response:
    encoder, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encoder(service.metrics.registry), headers={"Content-Type": content_type})


@router.get("/", include_in_schema=False)
async def root() -> RedirectResponse:
    return RedirectResponse("/docs")


async def _encoded(service: Service, call: Call, upload: uploads.Upload, known: np.ndarray, model: Model) -> Encoded:
    """The face of an uploaded picture as the encoder sees it, from memory where the picture was seen before."""
    if upload.image is None:
        raise invalid(uploads.IMAGE_FIELD, None, "is required: a form field of that name, or the body itself")

    def decode_and_frame(data: bytes) -> tuple[np.ndarray, images.Box, tuple[int, int]]:
        # One job, so that a decoded picture never waits in the queue: only as many are alive as there are threads.
        with call.stage("decode"):
            picture = images.decode(data, service.settings.max_image_pixels)
        with call.stage("align"):
            return *images.framed_face(picture, model.manifest.frame), picture.size

    key = service.latents.key(upload.image, known, model.manifest.files["encoder.onnx"].sha256)
    if kept := service.latents.get(key):
        return kept
    face, box, size = await service.in_codec_thread(decode_and_frame, upload.image)
    found = await model.encode(face[None], known[None], call)
    encoded = Encoded(found["mean"][0], found["log_variance"][0], found["attribute_estimates"][0], box, *size)
    service.latents.put(key, encoded)
    return encoded


async def _source(
    service: Service, call: Call, upload: uploads.Upload, asked: EditRequest, known: np.ndarray, model: Model
) -> tuple[np.ndarray, np.ndarray]:
    """Latent f32 [1, Z] and attributes f32 [1, K] of the face to edit, from its picture or as given."""
    if asked.latent is None:
        found = await _encoded(service, call, upload, known, model)
        return found.mean[None], found.attributes[None]
    if upload.image is not None:
        raise invalid("latent", f"{len(asked.latent)} values", "cannot be given together with an image")
    if np.isnan(known).any():
        missing = [name for name, value in zip(model.manifest.attribute_names, known, strict=True) if np.isnan(value)]
        raise invalid(
            "source_attributes", None, f"is required with a latent, for every attribute; missing: {', '.join(missing)}"
        )
    return vectors.latent_matrix([asked.latent], model.manifest, ["latent"]), known[None]


async def _pictures(
    service: Service,
    call: Call,
    wanted: negotiation.Representation,
    inner_format: images.OutputFormat,
    quality: int,
    model: Model,
    faces: np.ndarray,
    attributes: np.ndarray,
    seed: int | None,
) -> Response:
    """Faces uint8 [N, S, S, 3] as the client wants them: one picture (several as a grid), or JSON."""
    if wanted != "json":
        sheet = faces[0] if len(faces) == 1 else images.grid(faces)
        with call.stage("encode"):
            data = await service.in_codec_thread(images.encode, sheet, wanted, quality)
        return Response(data, media_type=negotiation.MEDIA_TYPES[wanted])
    with call.stage("encode"):
        encoded = await service.in_codec_thread(lambda: [images.encode(face, inner_format, quality) for face in faces])
    pictures = [
        PictureResponse(
            media_type=negotiation.MEDIA_TYPES[inner_format],
            width=face.shape[1],
            height=face.shape[0],
            data=base64.b64encode(data).decode(),
            attributes=_by_name(model, row),
        )
        for face, data, row in zip(faces, encoded, attributes, strict=True)
    ]
    return JSONResponse(PicturesResponse(model=model.identity, seed=seed, images=pictures).model_dump())


def _model(service: Service, call: Call, name: str | None) -> Model:
    if not service.ready:
        raise Problem(503, "the service is not ready", headers={"Retry-After": "1"})
    model = call.resources.enter_context(service.models.get(name).in_use())
    call.headers["X-Facet-Model"] = model.identity
    return model


def _check_count(field: str, count: int, largest: int) -> None:
    if count > largest:
        raise invalid(field, count, f"at most {largest} faces in one request")


def _describe(service: Service, model: Model) -> ModelResponse:
    manifest = model.manifest
    return ModelResponse(
        name=manifest.name,
        version=manifest.version,
        description=manifest.description,
        default=manifest.name == service.settings.default_model,
        device=model.runtime.device,
        image_size=manifest.frame.image_size,
        aligned_size=manifest.frame.aligned_size,
        latent_size=manifest.latent_size,
        attributes=[AttributeResponse(**a.model_dump(exclude={"gain"})) for a in manifest.attributes],
        weights_licence=manifest.weights_licence,
        evaluation=manifest.evaluation,
    )


def _by_name(model: Model, values: np.ndarray) -> dict[str, float]:
    return dict(zip(model.manifest.attribute_names, _floats(values), strict=True))


def _floats(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]
