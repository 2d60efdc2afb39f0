"""Health over HTTP: probes and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client.exposition import choose_encoder

from service.api import openapi
from service.api.schemas import HealthResponse
from service.api.service import Current, Shared

router = APIRouter(tags=["Operation"])
administration = APIRouter(tags=["Operation"])  # on the administration port, where there is one


@router.get("/healthz", response_model=HealthResponse, responses={503: {"model": HealthResponse}}, summary="Liveness")
async def healthz(service: Shared) -> JSONResponse:
    dead = service.models.dead()
    body = HealthResponse(status=f"the worker of {dead} died" if dead else "ok")
    return JSONResponse(body.model_dump(), 503 if dead else 200)


@router.get("/readyz", response_model=HealthResponse, responses={503: {"model": HealthResponse}}, summary="Readiness")
async def readyz(service: Shared) -> JSONResponse:
    ready = await service.is_ready()
    return JSONResponse(HealthResponse(status="ok" if ready else "not ready").model_dump(), 200 if ready else 503)


@administration.get(
    "/metrics", response_class=PlainTextResponse, responses=openapi.problems(401, 403), summary="Prometheus metrics"
)
async def metrics(request: Request, service: Shared, context: Current) -> Response:
    service.access.check(request.headers, context, "metrics")
    encoder, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encoder(service.metrics.registry), headers={"Content-Type": content_type})
