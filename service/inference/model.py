"""One loaded model: a verified bundle, its runtime, and one batcher per graph."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from service.bundle.loader import Bundle
from service.bundle.manifest import GraphKind, Manifest
from service.bundle.sampler import TEMPERATURE, Sampler, within_labels
from service.bundle.sensitive import DisabledAttributes
from service.errors import BatcherError, QueueFullError, RequestTooLargeError
from service.inference import golden
from service.inference.batcher import Batch, Batcher, buckets
from service.inference.onnx import RuntimeFactory, blank, run_of, warm
from service.inference.out_of_memory import OutOfMemoryFallback, run_in_parts
from service.inference.worker_slots import WorkerSlots
from service.request import RequestContext
from service.settings import Settings
from service.telemetry.metrics import Metrics

_PROBE_SECONDS = 5.0


def _lower_priority() -> None:
    """Give an inference thread a lower priority than the event loop.

    The event loop needs short and frequent turns. While inference threads compute on every core, it waits milliseconds
    for each turn, and requests pile up that it could refuse or answer. The codec threads keep their priority: with
    theirs lowered too, throughput was measured to be the same, and the tail of the loop's delay to be longer.
    """
    if sys.platform == "linux":  # elsewhere the priority is of the whole process
        with contextlib.suppress(OSError):  # some sandboxes forbid it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5))


class Model:
    """One loaded bundle, warmed up and checked against its golden samples. Raises BundleError."""

    def __init__(self, bundle: Bundle, runtime_factory: RuntimeFactory, settings: Settings, metrics: Metrics) -> None:
        self.bundle = bundle
        self.runtime = runtime_factory(bundle, settings)
        max_batch = settings.max_batch or self.runtime.max_batch
        warm(self.runtime, bundle.manifest, buckets(max_batch))
        self._check_samples(max_batch)
        # On a CPU all graphs share one thread per core, and one batch is prefetched for the thread that is free first.
        # Elsewhere each graph has its own threads, which hardly use the CPU.
        here, workers = self.runtime.computes_here, self.runtime.workers
        kinds = bundle.manifest.graph_kinds
        threads, begin = (workers, _lower_priority) if here else (len(kinds) * workers, None)
        self._executor = ThreadPoolExecutor(threads, f"infer-{bundle.manifest.name}", begin)
        self._graphs = {kind: OutOfMemoryFallback(kind, run_of(self.runtime, kind), metrics) for kind in kinds}
        shared = WorkerSlots(workers, prefetch=1) if here else None
        batchers = {
            graph: Batcher(
                graph,
                run,
                self._executor,
                metrics,
                max_batch=max_batch,
                capacity=settings.queue_images,
                slots=shared or WorkerSlots(workers),
                padding=self.runtime.padding,
            )
            for graph, run in self._graphs.items()
        }
        self.encoder, self.decoder, self.editor = batchers["encoder"], batchers["decoder"], batchers.get("editor")
        self._batchers: dict[GraphKind, Batcher] = batchers
        self.sampler = Sampler(bundle.prior, bundle.manifest.attribute_groups)
        self.disabled = DisabledAttributes.of(bundle.manifest, settings.sensitive_attributes)
        # Caches of latents use this as a key: latents depend on the graph, and on the frame that crops the face.
        graph = bundle.manifest.files["encoder.onnx"]
        self.encoder_identity = f"{bundle.identity} {graph.sha256} {bundle.manifest.frame.model_dump_json()}"
        self.closed = False
        self._probing = False
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @property
    def identity(self) -> str:
        return self.bundle.identity

    @property
    def healthy(self) -> bool:
        """Whether no worker has died."""
        return all(batcher.failure is None for batcher in self._batchers.values())

    @property
    def ready(self) -> bool:
        """Whether it can take work: healthy, and not out of memory."""
        return self.healthy and not self.closed and not any(graph.short for graph in self._graphs.values())

    async def probe(self, seconds: float = _PROBE_SECONDS) -> None:
        """Run one image on each graph that ran out of memory, which updates `ready`."""
        for kind, batcher in self._batchers.items():
            if not self._graphs[kind].short or self._probing:
                continue
            self._probing = True
            try:
                await batcher.submit(blank(self.manifest, kind, 1), seconds)
            except BatcherError:
                continue  # still out of memory, or busy
            finally:
                self._probing = False

    def batcher(self, graph: GraphKind) -> Batcher:
        """The batcher of a graph; where there is none, the decoder's, which does the work of a missing editor."""
        return self._batchers.get(graph, self.decoder)

    def refusal(self, graph: GraphKind) -> float | None:
        """Seconds until there should be room for one more request on its way to that graph; None where there is now."""
        return self.batcher(graph).refusal()

    @contextmanager
    def in_use(self, graph: GraphKind = "decoder", images: int = 1) -> Iterator[Model]:
        """Keep the model open for a request that is to end in that graph with so many images, and room for these.

        What began on a model ends on it, also when another has replaced it. Raises QueueFullError.
        """
        with self.batcher(graph).reserve(images):
            self._users += 1
            self._unused.clear()
            try:
                yield self
            finally:
                self._users -= 1
                if not self._users:
                    self._unused.set()

    async def encode(self, image: np.ndarray, attributes: np.ndarray, context: RequestContext) -> dict[str, np.ndarray]:
        """uint8 [N, S, S, 3] and f32 [N, K] (NaN unknown) to mean, log_variance [N, Z], attribute_estimates [N, K].

        `context` records the seconds of each stage, and its deadline applies. Raises BatcherError.
        """
        return await self._submit(self.encoder, {"image": image, "attributes": attributes}, context)

    async def decode(self, latent: np.ndarray, attributes: np.ndarray, context: RequestContext) -> np.ndarray:
        """f32 [N, Z] and f32 [N, K] to uint8 [N, S, S, 3]; otherwise as `encode`."""
        return (await self._submit(self.decoder, {"latent": latent, "attributes": attributes}, context))["image"]

    async def draw_latents(
        self, seed: int, attributes: np.ndarray, context: RequestContext, temperature: float = TEMPERATURE
    ) -> np.ndarray:
        """Latents f32 [N, Z] of faces with `attributes` f32 [N, K], by the learned prior if there is one.

        Each row depends on the seed and its own index alone. Otherwise as `encode`.
        """
        if "prior" not in self._batchers:
            return self.sampler.latents(seed, attributes, temperature)
        noise = self.sampler.noise(seed, len(attributes), temperature)
        return await self.run_prior(noise, within_labels(attributes), context)

    async def run_prior(self, noise: np.ndarray, attributes: np.ndarray, context: RequestContext) -> np.ndarray:
        """f32 [N, Z] and f32 [N, K] to latents f32 [N, Z]; otherwise as `encode`. For a model with a learned prior."""
        inputs = {"noise": noise, "attributes": attributes}
        return (await self._submit(self.batcher("prior"), inputs, context))["latent"]

    async def edit(self, image: np.ndarray, change: np.ndarray, context: RequestContext) -> dict[str, np.ndarray]:
        """uint8 [N, E, E, 3] and f32 [N, K] to the fields of `service.imaging.edit_fields`; otherwise as `encode`.

        For a model that has an editor.
        """
        return await self._submit(self.batcher("editor"), {"image": image, "change": change}, context)

    async def _submit(
        self, batcher: Batcher, inputs: dict[str, np.ndarray], context: RequestContext
    ) -> dict[str, np.ndarray]:
        stage = context.stage("queue").begin()
        stage.attributes["graph"] = batcher.graph

        def started(batch: Batch) -> None:
            nonlocal stage
            stage.attributes |= {"batch.id": batch.number, "batch.size": batch.images}
            stage.end()
            stage = context.stage("infer").begin()
            stage.attributes["graph"] = batcher.graph

        try:
            computed = await batcher.submit(inputs, context.remaining, started)
        except (QueueFullError, RequestTooLargeError):
            raise  # the request was never in the queue
        except BaseException as exc:  # requests that fail in the queue need their trace most
            stage.end(exc)
            raise
        stage.attributes["batch.ids"] = [batch.number for batch in computed.batches]
        stage.end(seconds=computed.infer_seconds)
        return computed.outputs

    def _check_samples(self, max_batch: int) -> None:
        """Raises BundleError if the runtime does not reproduce the bundle's golden samples."""

        def run(kind: GraphKind, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return run_in_parts(run_of(self.runtime, kind), inputs, max_batch)

        def decode(latent: np.ndarray, attributes: np.ndarray) -> np.ndarray:
            return run("decoder", {"latent": latent, "attributes": attributes})["image"]

        def learned(noise: np.ndarray, attributes: np.ndarray) -> np.ndarray:
            return run("prior", {"noise": noise, "attributes": attributes})["latent"]

        golden.check(self.bundle, decode, learned if "prior" in self.manifest.graph_kinds else None)
        if "editor" in self.manifest.graph_kinds:
            golden.check_editor(self.bundle, lambda image, change: run("editor", {"image": image, "change": change}))

    async def close(self) -> None:
        """Wait until no request uses the model, finish what was admitted, then stop the threads."""
        await self._unused.wait()
        self.closed = True
        for batcher in self._batchers.values():
            await batcher.close()
        self._executor.shutdown()
