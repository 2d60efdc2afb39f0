"""Puts the service together: settings, metrics, models and routes into one FastAPI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from service import inference_routes, problems, studio, tracing
from service.calls import CallMiddleware
from service.context import Service
from service.credentials import Credentials
from service.detector import Detector
from service.faces import FaceFinder
from service.latents import LatentCache
from service.metrics import Metrics
from service.models import Models
from service.routes import PROBLEM_SCHEMA, router
from service.runtime import RuntimeFactory, RuntimeUnavailableError
from service.runtimes import open_runtime
from service.schemas import ProblemResponse
from service.settings import Settings
from service.tracing import Tracing
from service.version import VERSION
from service.weights import WeightsError

log = logging.getLogger(__name__)

_DESCRIPTION = """Edits faces by attribute. Pictures come as a form field `image` or as the body itself; `Accept`
chooses between pictures and JSON; every error is `application/problem+json`."""


def create_app(
    settings: Settings | None = None,
    runtime_factory: RuntimeFactory = open_runtime,
    registry: CollectorRegistry | None = None,
    traces: Tracing | None = None,
) -> FastAPI:
    """The application. Models load when it starts, unless `app.state.service.models.load_all()` was called before;
    a bundle that is refused stops the start with its BundleError. Raises TracingUnavailableError and CredentialsError.

    `runtime_factory`, `registry` and `traces` are seams for tests.
    """
    settings = settings or Settings()
    traces = traces or tracing.configured(settings)
    metrics = Metrics(registry or _default_registry())
    metrics.describe_build(VERSION)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service: Service = app.state.service
        try:
            if not service.models.all():
                service.models.load_all()
            service.ready = True
            log.info("ready")
            async with service.models.watching():
                yield
        finally:
            service.ready = False
            await service.models.close()
            service.codecs.shutdown()
            if traces:
                await asyncio.to_thread(traces.close)

    # The framework's own telemetry tells whole query strings, and ours may hold attributes and latents.
    silent = {"tracing": False, "metrics": False, "logs": False}
    app = FastAPI(title="Facet", version=VERSION, description=_DESCRIPTION, lifespan=lifespan, telemetry=silent)
    app.state.service = Service(
        settings=settings,
        models=Models(settings, runtime_factory, metrics),
        metrics=metrics,
        codecs=ThreadPoolExecutor(settings.codec_threads, thread_name_prefix="codec"),
        latents=LatentCache(settings.latent_cache_bytes, metrics),
        faces=FaceFinder(_detector(settings)),
        credentials=Credentials.of(settings),
    )
    app.include_router(router)
    app.include_router(inference_routes.router)
    app.include_router(studio.router)
    _describe_problems(app)
    problems.install(app)
    app.add_middleware(
        CallMiddleware,
        metrics=metrics,
        max_body_bytes=settings.max_body_bytes,
        timeout=settings.request_timeout,
        refusal=app.state.service.refusal,
        tracing=traces,
    )
    app.add_middleware(inference_routes.ErrorShape)
    return app


def _detector(settings: Settings) -> Detector | None:
    try:
        return Detector(settings.weights)
    except (WeightsError, RuntimeUnavailableError) as exc:
        log.warning("faces cannot be found in photographs, only framed ones are accepted: %s", exc)
        return None


def _describe_problems(app: FastAPI) -> None:
    """Put the schema of problems into the OpenAPI document, where every error response refers to it."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas = plain().setdefault("components", {}).setdefault("schemas", {})
            schema = ProblemResponse.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(schema.pop("$defs", {}))
            schemas[PROBLEM_SCHEMA] = schema
        return app.openapi_schema

    app.openapi = openapi


def _default_registry() -> CollectorRegistry:
    """A registry with the process's own metrics; not the global one, so that two applications can live side by side."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
