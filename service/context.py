"""What requests work with: the service's shared parts, and one request's hold on a model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from service import vectors
from service.access import Access
from service.batcher import QueueFullError
from service.bundle import GraphKind
from service.calls import Call
from service.credentials import Agent, Credentials
from service.faces import FaceFinder
from service.latents import LatentCache
from service.limits import Bodies
from service.metrics import Metrics
from service.models import Model, Models
from service.photographs import Photograph, Shelf
from service.problems import Problem
from service.provenance import Origin, SourceType
from service.settings import Settings

Result = TypeVar("Result")
# Bytes of pixels. A 64 x 64 face takes 0.05 ms to encode as PNG, and handing it to a thread and back another 0.1.
_SMALL = 3 * 64 * 64
# The graph without which a path's work on a picture cannot be done. An edit may come with a latent, and then takes the
# decoder; a model without an editor has its decoder do that work.
NEEDED: dict[str, GraphKind] = {
    "/v1/encode": "encoder",
    "/v1/generate": "decoder",
    "/v1/edit": "editor",
    "/v1/sweep": "editor",
}


@dataclass
class Service:
    """What handlers share: settings, models, metrics, the codec threads, kept latents, and whether we accept work."""

    settings: Settings
    models: Models
    metrics: Metrics
    codecs: Executor
    latents: LatentCache
    faces: FaceFinder
    shelf: Shelf
    access: Access
    bodies: Bodies
    credentials: Credentials | None = None
    ready: bool = False
    draining: bool = False  # what has begun is finished, and nobody should send more
    codec_jobs: int = 0

    def refusal(self, path: str, any_model: bool, pictured: bool = True) -> float | None:
        """Seconds after which to try again, where a path's work would be refused by the default model, or by all.

        Work that is not on a picture (`pictured`) ends in the decoder.
        """
        graph = NEEDED.get(path)
        graph = graph if pictured or graph != "editor" else "decoder"
        return self.models.refusal(graph, any_model) if graph else None

    async def is_ready(self) -> bool:
        """Whether it takes work now."""
        return self.ready and not self.draining and await self.models.ready()

    async def in_codec_thread(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run picture work beside the event loop. Raises QueueFullError where too much of it waits already.

        Work of a caller that is cancelled is dropped if it has not begun, and counts until it has ended.
        """
        if self.codec_jobs >= self.settings.queue_images:
            self.metrics.rejected.labels("codecs_full").inc()
            raise QueueFullError(1.0)
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        # In the request's context, so that what it logs there carries the request's id.
        job = self.codecs.submit(copy_context().run, work, *arguments)
        self.codec_jobs += 1
        # One message to the loop for each job: asyncio.wrap_future would send another, and each wakes it.
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._codec_job_ended, job, done))
        try:
            return await done
        finally:
            job.cancel()

    async def encoded(self, size: int, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run `work`, which encodes pictures of `size` bytes, where it is done soonest; signing may take its time."""
        if size <= _SMALL and self.credentials is None:
            return work(*arguments)
        return await self.in_codec_thread(work, *arguments)

    def work(
        self, call: Call, name: str | None, graph: GraphKind = "decoder", images: int = 1, unedited: int = 0
    ) -> Work:
        """Take hold of the model of that name until the request is over, which is to end in that graph with so many
        images, as far as it says by now. Where there is no editor, the decoder draws `unedited` faces more.

        Raises a 503 or a 404 Problem, and QueueFullError where the graph has no room for it.
        """
        if not self.ready:
            raise Problem(503, "the service is not ready", headers={"Retry-After": "1"})
        model = self.models.get(name)
        if graph == "editor" and model.editor is None:
            graph, images = "decoder", images + unedited
        images = min(images, self.settings.max_count)
        if (seconds := model.refusal(graph, images)) is not None:
            self.metrics.rejected.labels("queue_full").inc()
            raise QueueFullError(seconds)
        call.resources.enter_context(model.in_use(graph, images))
        call.headers["X-Facet-Model"] = model.identity
        return Work(self, call, model)

    def _codec_job_ended(self, job: Future[Result], done: asyncio.Future[Result]) -> None:
        self.codec_jobs -= 1
        if done.done():
            return  # its caller was cancelled
        if error := job.exception():
            done.set_exception(error)
        else:
            done.set_result(job.result())


@dataclass(frozen=True)
class Work:
    """One request at work on a model, which stays open meanwhile."""

    service: Service
    call: Call
    model: Model

    def given_wholly(self, known: np.ndarray) -> np.ndarray | None:
        """`known` f32 [K] with values for what is withheld, if it has one for each of the other attributes; else None.

        What is withheld clients were never told; it gets what goes best with the rest.
        """
        pairs = zip(self.model.manifest.attribute_names, known, strict=True)
        unsaid = [name for name, value in pairs if np.isnan(value)]
        if any(name not in self.model.withheld for name in unsaid):
            return None
        return self.model.sampler.expected(known) if unsaid else known

    def photograph(self, data: bytes, to_edit: bool = False) -> Photograph:
        """The request's photograph; one that is to be edited stays decoded meanwhile, if there is room."""
        shelf = self.service.shelf if to_edit else None
        photograph = Photograph(data, self.service.settings.max_image_pixels, shelf)
        self.call.resources.callback(photograph.close)
        return photograph

    def attributes(
        self, values: vectors.AttributeValues, field: str = "attributes", exclusive: bool = True
    ) -> np.ndarray:
        """f32 [K] of what the request says in `field`, NaN for the rest.

        Raises Problem 422, or 403 for an attribute that is withheld.
        """
        vector = vectors.attribute_vector(values, self.model.manifest, field, exclusive)
        self.model.withheld.refuse(vector, field)
        return vector

    def origin(self, original: bytes | None = None) -> Origin:
        """What the pictures of the answer are: edits of a photograph, if there is an `original`, or drawn whole."""
        agent = Agent(f"Facet {self.model.manifest.name}", self.model.manifest.version)
        source_type = SourceType.EDITED if original else SourceType.GENERATED
        return Origin(source_type, agent, self.service.credentials, original, self.service.settings.watermark)
