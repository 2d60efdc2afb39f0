"""What operators and their machines call: probes, metrics, reloading a model."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client.exposition import choose_encoder

from service import openapi
from service.bundle import BundleError
from service.models import unknown_model
from service.problems import Problem
from service.routes import Current, Shared, described
from service.runtime import RuntimeUnavailableError
from service.schemas import HealthResponse, ModelResponse

probes = APIRouter(tags=["Operation"])
router = APIRouter(tags=["Operation"])


@router.post(
    "/v1/models/{name}:reload",
    response_model=ModelResponse,
    responses=openapi.problems(401, 403, 404, 409, 422, 503),
    summary="Load a bundle again, or a new one",
)
async def reload_model(name: str, request: Request, service: Shared, call: Current) -> ModelResponse:
    service.access.check(request, call, "admin")
    try:
        model = await service.models.reload(name)
    except KeyError:
        raise unknown_model(name, [loaded.manifest.name for loaded in service.models.all()]) from None
    except (BundleError, RuntimeUnavailableError) as exc:
        rule = f"{exc}; the model that was loaded before goes on"
        raise Problem(409, rule, [{"field": "model", "value": name[:80], "rule": str(exc)}]) from exc
    call.headers["X-Facet-Model"] = model.identity
    return described(service, model)


@router.get(
    "/metrics", response_class=PlainTextResponse, responses=openapi.problems(401, 403), summary="Prometheus metrics"
)
async def metrics(request: Request, service: Shared, call: Current) -> Response:
    service.access.check(request, call, "metrics")
    encoder, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encoder(service.metrics.registry), headers={"Content-Type": content_type})


@probes.get("/healthz", response_model=HealthResponse, responses={503: {"model": HealthResponse}}, summary="Liveness")
async def healthz(service: Shared) -> JSONResponse:
    dead = service.models.dead()
    body = HealthResponse(status=f"the worker of {dead} died" if dead else "ok")
    return JSONResponse(body.model_dump(), 503 if dead else 200)


@probes.get("/readyz", response_model=HealthResponse, responses={503: {"model": HealthResponse}}, summary="Readiness")
async def readyz(service: Shared) -> JSONResponse:
    ready = await service.is_ready()
    return JSONResponse(HealthResponse(status="ok" if ready else "not ready").model_dump(), 200 if ready else 503)
