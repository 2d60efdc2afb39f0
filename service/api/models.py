"""Models over HTTP: list, describe, reload."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api import openapi
from service.api.compression import packed
from service.api.schemas import ModelResponse, ModelsResponse
from service.api.service import Current, Service, Shared
from service.bundle.manifest import BundleError
from service.errors import Problem, RuntimeUnavailableError
from service.inference.model import Model
from service.inference.registry import unknown_model

router = APIRouter(tags=["Faces"])
administration = APIRouter(tags=["Operation"])  # on the administration port, where there is one


@router.get(
    "/v1/models", response_model=ModelsResponse, responses=openapi.problems(401, 403, 503), summary="Loaded models"
)
async def list_models(request: Request, service: Shared, context: Current) -> Response:
    service.access.check(request.headers, context, "use")
    listed = ModelsResponse(models=[_described(service, model) for model in service.models.all()])
    return _answer(listed, request)


@router.get(
    "/v1/models/{name}",
    response_model=ModelResponse,
    responses=openapi.problems(401, 403, 404, 422, 503),
    summary="One model",
)
async def describe_model(name: str, request: Request, service: Shared, context: Current) -> Response:
    service.access.check(request.headers, context, "use")
    described = _described(service, service.models.get(name))
    return _answer(described, request)


def _answer(content: ModelResponse | ModelsResponse, request: Request) -> Response:
    # By pydantic, which writes a measure that is not a number as null; json refuses it.
    return packed(Response(content.model_dump_json(), media_type="application/json"), request.headers)


@administration.post(
    "/v1/models/{name}:reload",
    response_model=ModelResponse,
    responses=openapi.problems(401, 403, 404, 409, 422, 503),
    summary="Load a bundle again, or a new one",
)
async def reload_model(name: str, request: Request, service: Shared, context: Current) -> ModelResponse:
    service.access.check(request.headers, context, "admin")
    try:
        model = await service.models.reload(name)
    except KeyError:
        raise unknown_model(name, [loaded.manifest.name for loaded in service.models.all()]) from None
    except (BundleError, RuntimeUnavailableError) as exc:
        rule = f"{exc}; the model that was loaded before goes on"
        raise Problem(409, rule, [{"field": "model", "value": name[:80], "rule": str(exc)}]) from exc
    context.model = model.identity
    return _described(service, model)


def _described(service: Service, model: Model) -> ModelResponse:
    return ModelResponse.of(model, service.settings.default_model)
