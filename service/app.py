"""The wiring: settings, metrics, models, middleware and routes become one FastAPI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from service.api import faces, health, models, oip, openapi, pages, problems
from service.api.service import Service
from service.auth.access import KEY_HEADER, Access
from service.inference.backends import open_runtime
from service.inference.oip_codec import HEADER_LENGTH
from service.inference.onnx import RuntimeFactory
from service.server.admission import AdmissionMiddleware
from service.server.head import HeadAsGet
from service.server.lifetime import TIMEOUT_HEADER, LifetimeMiddleware
from service.server.limits import BodyBudget
from service.server.middleware import IGNORED_HEADER, MODEL_HEADER, SEED_HEADER, WARNING_HEADER, RequestMiddleware
from service.server.redirects import RelativeRedirects
from service.settings import Settings
from service.system import VERSION
from service.telemetry import tracing
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

_DESCRIPTION = """Edits faces by attribute. Pictures come as a form field `image`, as the body itself, or in base64 in
JSON; `Accept` chooses between pictures and JSON; every error is `application/problem+json`, but below `/v2`."""
_TAGS = [{"name": name} for name in ("Faces", "Open Inference Protocol", "Operation")]  # in the order of the pages

# FastAPI's own telemetry records whole query strings, and ours may hold attributes and latents.
_SILENT = {"tracing": False, "metrics": False, "logs": False}
_CORS = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": ["Authorization", KEY_HEADER, "Content-Type", "X-Request-ID", TIMEOUT_HEADER, HEADER_LENGTH],
    "expose_headers": [
        "Retry-After",
        "Server-Timing",
        IGNORED_HEADER,
        MODEL_HEADER,
        SEED_HEADER,
        WARNING_HEADER,
        "X-Request-ID",
        HEADER_LENGTH,
    ],
}


def create_app(
    settings: Settings | None = None,
    runtime_factory: RuntimeFactory = open_runtime,
    registry: CollectorRegistry | None = None,
    traces: Tracing | None = None,
) -> FastAPI:
    """The application. Models load when it starts, unless `app.state.service.models.load_all()` was called before.

    A bundle that is refused stops the start with its BundleError. Raises TracingUnavailableError, CredentialsError and
    KeysError. `app.state.administration` is the application of the administration port, None without such a port.

    `runtime_factory`, `registry` and `traces` are seams for tests.
    """
    settings = settings or Settings()
    traces = traces or tracing.configured(settings)
    metrics = Metrics(registry or _default_registry())
    metrics.describe_build(VERSION)
    service = Service.of(settings, runtime_factory, metrics, access=Access(settings, metrics))
    # The order of the middleware, outermost first. ErrorShape and CORS change what all others answer, refusals too.
    # The request's context comes before everything that reports on it, admission before everything that costs more
    # than a refusal, and the lifetime next to the routes, which it ends.
    context = Middleware(RequestMiddleware, metrics, settings.request_timeout, traces)
    admission = Middleware(AdmissionMiddleware, service.models, metrics)
    body_budget = BodyBudget(settings.max_bodies_bytes, metrics)
    lifetime = Middleware(LifetimeMiddleware, metrics, settings.max_body_bytes, body_budget)
    head, redirects = Middleware(HeadAsGet), Middleware(RelativeRedirects)
    origins = sorted(settings.cors_origins)
    cors = [Middleware(CORSMiddleware, allow_origins=origins, **_CORS)] if origins else []
    app = FastAPI(
        title="Facet",
        version=VERSION,
        description=_DESCRIPTION,
        openapi_tags=_TAGS,
        servers=[{"url": "./"}],  # relative to the document, which keeps a prefix that a proxy strips
        docs_url=None,  # `pages` instead: FastAPI's pages load scripts from elsewhere
        redoc_url=None,
        lifespan=_lifespan(service, traces),
        middleware=[
            Middleware(oip.ErrorShape),
            *(cors if settings.cors_origins else []),
            context,
            admission,
            lifetime,
            head,
            redirects,
        ],
        telemetry=_SILENT,
    )
    app.state.service = service
    app.state.administration = (
        _administration(service, [context, lifetime, head, redirects]) if settings.admin_port else None
    )
    app.include_router(faces.router)  # first, since routes are tried in order and most requests are for these
    # The route that reloads a model comes before the others, or its path would be taken for the name of a model.
    for routes in (models.administration, health.administration):
        (app.state.administration or app).include_router(routes)
    for routes in (models.router, oip.router, health.router, pages.router):
        app.include_router(routes)
    openapi.install(app, service.access)
    problems.install(app)
    return app


def _lifespan(service: Service, traces: Tracing | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            async with service.running():
                log.info("ready")
                yield
        finally:
            if traces:
                await asyncio.to_thread(traces.close)

    return lifespan


def _administration(service: Service, middleware: list[Middleware]) -> FastAPI:
    """The application of the administration port, with the probes; metrics and reloading are added to it."""
    app = FastAPI(
        title="Facet's administration", version=VERSION, openapi_url=None, middleware=middleware, telemetry=_SILENT
    )
    app.state.service = service
    app.include_router(health.router)
    problems.install(app)
    return app


def _default_registry() -> CollectorRegistry:
    """A registry with the process's own metrics; not the global one, so that two applications can live side by side."""
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry
