"""Puts the service together: settings, metrics, models and routes into one FastAPI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.middleware.cors import CORSMiddleware

from service import administration, inference_routes, openapi, problems, reference, studio, tracing
from service.access import Access
from service.calls import TIMEOUT_HEADER, CallMiddleware
from service.context import Service
from service.credentials import Credentials
from service.door import Door
from service.faces import FaceFinder
from service.inference_protocol import HEADER_LENGTH
from service.latents import LatentCache
from service.limits import Bodies
from service.metrics import Metrics
from service.models import Models
from service.photographs import Shelf
from service.routes import BUSY, router
from service.runtime import RuntimeFactory
from service.runtimes import open_runtime
from service.sensitivity import unknown
from service.settings import Settings
from service.shortcut import Shortcut
from service.tracing import Tracing
from service.version import VERSION

log = logging.getLogger(__name__)

_DESCRIPTION = """Edits faces by attribute. Pictures come as a form field `image` or as the body itself; `Accept`
chooses between pictures and JSON; every error is `application/problem+json`, but below `/v2`."""
_TAGS = [{"name": name} for name in ("Faces", "Open Inference Protocol", "Operation")]  # in the order of the pages

# The framework's own telemetry tells whole query strings, and ours may hold attributes and latents.
_SILENT = {"tracing": False, "metrics": False, "logs": False}
_CORS = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": ["Authorization", "Content-Type", "X-Request-ID", TIMEOUT_HEADER, HEADER_LENGTH],
    "expose_headers": ["Retry-After", "Server-Timing", "X-Facet-Model", "X-Facet-Seed", "X-Request-ID", HEADER_LENGTH],
}


def create_app(
    settings: Settings | None = None,
    runtime_factory: RuntimeFactory = open_runtime,
    registry: CollectorRegistry | None = None,
    traces: Tracing | None = None,
) -> FastAPI:
    """The application. Models load when it starts, unless `app.state.service.models.load_all()` was called before;
    a bundle that is refused stops the start with its BundleError. Raises TracingUnavailableError, CredentialsError and
    KeysError. Where administration has a port of its own, `app.state.administration` is what listens there, else None.

    `runtime_factory`, `registry` and `traces` are seams for tests.
    """
    settings = settings or Settings()
    traces = traces or tracing.configured(settings)
    metrics = Metrics(registry or _default_registry())
    metrics.describe_build(VERSION)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            if not service.models.all():
                service.models.load_all()
            mistyped = unknown(settings.sensitive_attributes, (model.manifest for model in service.models.all()))
            if mistyped:
                log.warning("FACET_SENSITIVE_ATTRIBUTES: no model has a sensitive %s", ", ".join(mistyped))
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

    app = FastAPI(
        title="Facet",
        version=VERSION,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        docs_url=None,  # `reference` instead: the framework's pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        telemetry=_SILENT,
    )
    app.state.service = service = Service(
        settings=settings,
        models=Models(settings, runtime_factory, metrics),
        metrics=metrics,
        codecs=ThreadPoolExecutor(settings.codec_threads, thread_name_prefix="codec"),
        latents=LatentCache(settings.latent_cache_bytes, metrics),
        shelf=Shelf(settings.max_image_pixels),
        faces=FaceFinder.of(settings),
        access=Access(settings, metrics),
        bodies=Bodies(settings.max_bodies_bytes, metrics),
        credentials=Credentials.of(settings),
    )
    # A trace is begun in the application, and refusals are to be in it.
    app.state.door = None if traces else Door(service.refusal, metrics, settings.request_timeout)
    app.state.administration = _administration(service, traces) if settings.admin_port else None
    # Reloading first, or its path would be taken for a model's.
    (app.state.administration or app).include_router(administration.router)
    for routes in (router, inference_routes.router, administration.probes, studio.router, reference.router):
        app.include_router(routes)
    openapi.install(app, service.access)
    # The last to be added is the outermost.
    app.add_middleware(Shortcut, routes=[route for route in router.routes if route.path in BUSY])
    _surround(app, service, traces)
    if settings.cors_origins:
        # Around everything that refuses, so that pages may read refusals too.
        app.add_middleware(CORSMiddleware, allow_origins=sorted(settings.cors_origins), **_CORS)
    app.add_middleware(inference_routes.ErrorShape)
    return app


def _administration(service: Service, traces: Tracing | None) -> FastAPI:
    """What listens on a port of its own: metrics and reloading are put into it, and probes."""
    app = FastAPI(title="Facet's administration", version=VERSION, openapi_url=None, telemetry=_SILENT)
    app.state.service = service
    app.include_router(administration.probes)
    _surround(app, service, traces)
    return app


def _surround(app: FastAPI, service: Service, traces: Tracing | None) -> None:
    problems.install(app)
    app.add_middleware(
        CallMiddleware,
        metrics=service.metrics,
        max_body_bytes=service.settings.max_body_bytes,
        timeout=service.settings.request_timeout,
        refusal=service.refusal,
        tracing=traces,
        bodies=service.bodies,
    )


def _default_registry() -> CollectorRegistry:
    """A registry with the process's own metrics; not the global one, so that two applications can live side by side."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
