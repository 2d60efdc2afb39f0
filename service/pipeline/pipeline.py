"""The pipeline: what every operation works with, and one request's lease on a model."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from service.bundle import sensitive
from service.bundle.manifest import GraphKind
from service.errors import Problem
from service.faces.finder import FaceFinder
from service.inference.model import Model
from service.inference.onnx import RuntimeFactory
from service.inference.registry import Models
from service.pipeline.codec_threads import CodecThreads
from service.pipeline.latent_cache import LatentCache
from service.pipeline.photo_cache import DecodedPhotoCache
from service.pipeline.photo_store import PhotoStore
from service.provenance.c2pa import Credentials
from service.request import RequestContext, new_identifier
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import Trace

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(kw_only=True)
class Pipeline:
    """Models, face finder, caches and threads that the operations share; use it on one event loop.

    The operations are functions of the modules beside this one: each takes the pipeline, the request's context, its
    parameters and the picture, and takes one lease. With `thorough`, all faces of a photograph are searched for where
    the largest alone is wanted, too: a quick look is faster, and may take another face for the largest.
    """

    settings: Settings
    models: Models
    metrics: Metrics
    codecs: CodecThreads
    latents: LatentCache
    faces: FaceFinder
    photo_cache: DecodedPhotoCache | None
    photos: PhotoStore
    credentials: Credentials | None = None
    thorough: bool = False
    ready: bool = False

    @classmethod
    def of(cls, settings: Settings, runtime_factory: RuntimeFactory, metrics: Metrics, **others: Any) -> Self:
        """A pipeline without models, which `running` loads. `others` are further fields. Raises CredentialsError."""
        return cls(
            settings=settings,
            models=Models(settings, runtime_factory, metrics),
            metrics=metrics,
            codecs=CodecThreads.of(settings, metrics),
            latents=LatentCache(settings.latent_cache_bytes, metrics),
            faces=FaceFinder.of(settings),
            photo_cache=DecodedPhotoCache(settings.max_image_pixels),
            photos=PhotoStore(
                settings.photo_store_bytes,
                settings.photo_store_seconds,
                decoded_bytes=settings.photo_store_decoded_bytes,
            ),
            credentials=Credentials.of(settings),
            **others,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the models, unless some are, and accept requests; at the end, finish those under way.

        Raises BundleError and RuntimeUnavailableError for a bundle that is refused.
        """
        try:
            if not self.models.all():
                self.models.load_all()
            enabled = self.settings.sensitive_attributes
            if mistyped := sensitive.unknown(enabled, (model.manifest for model in self.models.all())):
                log.warning("FACET_SENSITIVE_ATTRIBUTES: no model has a sensitive %s", ", ".join(mistyped))
            self.ready = True
            async with self.models.watching():
                yield
        finally:
            self.ready = False
            await self.models.close()
            self.codecs.close()

    @contextmanager
    def request(self, timeout: float = math.inf, trace: Trace | None = None) -> Iterator[RequestContext]:
        """The context of a request that comes from this process, to be done within `timeout` seconds.

        What the request holds is released at the end.
        """
        context = RequestContext(new_identifier(), self.metrics, timeout, trace)
        token = logs.request.set(context.identity)
        try:
            with context.resources:
                yield context
        finally:
            logs.request.reset(token)

    def lease(
        self,
        context: RequestContext,
        name: str | None,
        graph: GraphKind = "decoder",
        images: int = 1,
        unedited: int = 0,
    ) -> ModelLease:
        """Hold the model of that name until the request is over, which is to end in that graph with so many images, as
        far as is known by now. Where there is no editor, the decoder draws `unedited` faces more.

        Raises a 503 or a 404 Problem, and QueueFullError where the graph has no room for it.
        """
        if not self.ready:
            raise Problem(503, "the service is not ready", headers={"Retry-After": "1"})
        model = self.models.get(name)
        if graph == "editor" and model.editor is None:
            graph, images = "decoder", images + unedited
        images = min(images, self.settings.max_count)
        context.resources.enter_context(model.in_use(graph, images))
        context.model = model.identity
        return ModelLease(self, context, model)


@dataclass(frozen=True)
class ModelLease:
    """One request's hold on a model, which stays open meanwhile."""

    pipeline: Pipeline
    context: RequestContext
    model: Model
