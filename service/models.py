"""The models that are loaded: each a verified bundle, its runtime, and one batcher per graph."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from service import bundle as bundles
from service import golden
from service.batcher import Batch, Batcher, BatcherError, QueueFullError, RequestTooLargeError, buckets
from service.bundle import Bundle, BundleError, GraphKind, Manifest
from service.calls import Call
from service.memory import Frugal, run_in_parts
from service.metrics import Metrics
from service.places import Places
from service.problems import Problem
from service.runtime import RuntimeFactory, RuntimeUnavailableError, blank, run_of, warm
from service.sensitivity import Withheld
from service.settings import Settings
from service.vectors import Sampler

Result = TypeVar("Result")
log = logging.getLogger(__name__)
_PROBE_SECONDS = 5.0


def _yield_to_the_loop() -> None:
    """Let a thread that computes give way where cores are short.

    The event loop needs little and often. Behind threads that compute on every core it waits milliseconds for each
    turn, while requests pile up that it could refuse or answer. Measured, so do the picture threads, which keep their
    priority: with theirs lowered too, as many requests were answered and the tail of the loop's delay was longer.
    """
    if sys.platform == "linux":  # elsewhere this would be about the whole process
        with contextlib.suppress(OSError):  # some sandboxes forbid it; a thread that may not yield still computes
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5))


class Model:
    """One loaded bundle: warm, and shown to draw its own golden samples.

    Raises BundleError otherwise.
    """

    def __init__(self, bundle: Bundle, runtime_factory: RuntimeFactory, settings: Settings, metrics: Metrics) -> None:
        self.bundle = bundle
        self.runtime = runtime_factory(bundle, settings)
        max_batch = settings.max_batch or self.runtime.max_batch
        warm(self.runtime, bundle.manifest, buckets(max_batch))
        self._check_samples(max_batch)
        # On a CPU all graphs share a thread for each core, and the next batch is ready for whichever is free first.
        # Elsewhere each has threads of its own, which hardly compute.
        here, workers = self.runtime.computes_here, self.runtime.workers
        kinds = bundle.manifest.graph_kinds
        threads, begin = (workers, _yield_to_the_loop) if here else (len(kinds) * workers, None)
        self._executor = ThreadPoolExecutor(threads, f"infer-{bundle.manifest.name}", begin)
        self._graphs = {kind: Frugal(kind, run_of(self.runtime, kind), metrics) for kind in kinds}
        shared = Places(workers, ahead=1) if here else None
        batchers = {
            graph: Batcher(
                graph,
                run,
                self._executor,
                metrics,
                max_batch=max_batch,
                capacity=settings.queue_images,
                places=shared or Places(workers),
                padding=self.runtime.padding,
            )
            for graph, run in self._graphs.items()
        }
        self.encoder, self.decoder, self.editor = batchers["encoder"], batchers["decoder"], batchers.get("editor")
        self._batchers: dict[GraphKind, Batcher] = batchers
        self.sampler = Sampler(bundle.prior, bundle.manifest.attribute_groups)
        self.withheld = Withheld.of(bundle.manifest, settings.sensitive_attributes)
        # What a picture's latents depend on, for whoever keeps them. The frame decides what of a face is encoded.
        graph = bundle.manifest.files["encoder.onnx"]
        self.encoder_identity = f"{bundle.identity} {graph.sha256} {bundle.manifest.frame.model_dump_json()}"
        self.closed = False
        self._probing = False
        self.at_work: Counter[GraphKind] = Counter()
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
        """Whether every worker lives."""
        return all(batcher.failure is None for batcher in self._batchers.values())

    @property
    def ready(self) -> bool:
        """Whether it can take work: healthy, and not out of memory."""
        return self.healthy and not self.closed and not any(graph.short for graph in self._graphs.values())

    async def probe(self, seconds: float = _PROBE_SECONDS) -> None:
        """Where a graph ran out of memory, try one image, so that `ready` tells whether it has it again."""
        for kind, batcher in self._batchers.items():
            if not self._graphs[kind].short or self._probing:
                continue
            self._probing = True
            try:
                await batcher.submit(blank(self.manifest, kind, 1), seconds)
            except BatcherError:
                continue  # it is still short of memory, or has no time for this
            finally:
                self._probing = False

    def batcher(self, graph: GraphKind) -> Batcher:
        """The decoder's where there is no editor: it does its work."""
        return self._batchers.get(graph, self.decoder)

    def refusal(self, graph: GraphKind, images: int = 1) -> float | None:
        """Seconds until there should be room for a request that is to end in that graph with so many images, if there
        is none now.

        Images on their way to it count as well: what is refused only there was decoded and encoded for nothing.
        """
        batcher = self.batcher(graph)
        coming = self.at_work[batcher.graph]
        full = coming > 0 and coming + images > batcher.most_images
        return batcher.seconds_for(coming) if full else batcher.refusal()

    @contextmanager
    def in_use(self, graph: GraphKind = "decoder", images: int = 1) -> Iterator[Model]:
        """Keep the model open for a request that is to end in that graph with so many images: what began on a model
        ends on it, also when another has taken its place.
        """
        graph = self.batcher(graph).graph
        self._users += 1
        self.at_work[graph] += images
        self._unused.clear()
        try:
            yield self
        finally:
            self.at_work[graph] -= images
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def encode(self, image: np.ndarray, attributes: np.ndarray, call: Call) -> dict[str, np.ndarray]:
        """uint8 [N, S, S, 3] and f32 [N, K] (NaN unknown) to mean, log_variance [N, Z], attribute_estimates [N, K].

        `call` is told the seconds spent in each stage, and limits all of its request's together. Raises BatcherError.
        """
        return await self._submit(self.encoder, {"image": image, "attributes": attributes}, call)

    async def decode(self, latent: np.ndarray, attributes: np.ndarray, call: Call) -> np.ndarray:
        """f32 [N, Z] and f32 [N, K] to uint8 [N, S, S, 3]; otherwise as `encode`."""
        return (await self._submit(self.decoder, {"latent": latent, "attributes": attributes}, call))["image"]

    async def edit(self, image: np.ndarray, change: np.ndarray, call: Call) -> dict[str, np.ndarray]:
        """uint8 [N, E, E, 3] and f32 [N, K] to the fields of `service.edit_fields`; otherwise as `encode`.

        For a model that has an editor.
        """
        return await self._submit(self.batcher("editor"), {"image": image, "change": change}, call)

    async def _submit(self, batcher: Batcher, inputs: dict[str, np.ndarray], call: Call) -> dict[str, np.ndarray]:
        stage = call.stage("queue").begin()
        stage.attributes["graph"] = batcher.graph

        def started(batch: Batch) -> None:
            nonlocal stage
            stage.attributes |= {"batch.id": batch.number, "batch.size": batch.images}
            stage.end()
            stage = call.stage("infer").begin()
            stage.attributes["graph"] = batcher.graph

        try:
            computed = await batcher.submit(inputs, call.remaining, started)
        except (QueueFullError, RequestTooLargeError):
            raise  # it was never in the queue
        except BaseException as exc:  # whoever waited in vain is who a trace is read for
            stage.end(exc)
            raise
        stage.attributes["batch.ids"] = [batch.number for batch in computed.batches]
        stage.end(seconds=computed.infer_seconds)
        return computed.outputs

    def _check_samples(self, max_batch: int) -> None:
        """Raises BundleError where the runtime does not draw the bundle's golden samples."""

        def run(kind: GraphKind, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return run_in_parts(run_of(self.runtime, kind), inputs, max_batch)

        golden.check(self.bundle, lambda latent, a: run("decoder", {"latent": latent, "attributes": a})["image"])
        if "editor" in self.manifest.graph_kinds:
            golden.check_editor(self.bundle, lambda image, change: run("editor", {"image": image, "change": change}))

    async def close(self) -> None:
        """Wait until nobody uses the model, finish what was admitted, then free the threads."""
        await self._unused.wait()
        self.closed = True
        for batcher in self._batchers.values():
            await batcher.close()
        self._executor.shutdown()


class Models:
    """Every bundle below one directory, by name. A bundle may be replaced while it serves."""

    def __init__(self, settings: Settings, runtime_factory: RuntimeFactory, metrics: Metrics) -> None:
        self._settings, self._factory, self._metrics = settings, runtime_factory, metrics
        self._models: dict[str, Model] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._loading = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()  # reloads, and models that close

    def load_all(self) -> None:
        """Load each bundle. Raises BundleError for the first that is refused, or where there is none."""
        root = self._settings.bundles
        directories = self._directories()
        if not directories:
            raise BundleError(root, "holds no bundle (FACET_BUNDLES must name a directory of bundles)")
        for directory in directories:
            self._stamps[directory.name] = _stamp(directory)
            self._install(self._open(directory))
        if self._settings.default_model not in self._models:
            rule = f"has no bundle {self._settings.default_model!r}, which FACET_DEFAULT_MODEL names"
            raise BundleError(root, rule)

    async def reload(self, name: str) -> Model:
        """Load, verify, warm and check the bundle of that name, then let it take the place of the one that serves.

        Requests under way end on the model they began with. Raises BundleError, or RuntimeUnavailableError, and
        leaves everything as it was; KeyError where there is no such bundle. What has begun is done to its end, whoever
        waits for it no longer: a thread that loads cannot be stopped, and its model must not be forgotten.
        """
        return await asyncio.shield(self._begin(self._reload(name)))

    def _begin(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """A task that `close` waits for."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task

    async def _reload(self, name: str) -> Model:
        async with self._loading:
            directory = next((d for d in self._directories() if d.name == name), None)
            if directory is None:
                raise KeyError(name)
            self._stamps[name] = _stamp(directory)
            try:
                model = await asyncio.to_thread(self._open, directory)
            except (BundleError, RuntimeUnavailableError) as exc:
                self._metrics.reloads.labels("failed").inc()
                log.error("model %s was not reloaded: %s", name, exc)
                raise
            old = self._models.get(name)
            self._install(model)
            self._metrics.reloads.labels("ok").inc()
            if old is not None:
                self._begin(old.close())
            return model

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Meanwhile, reload what changes on disk, if the settings ask for it."""
        task = asyncio.create_task(self._watch()) if self._settings.watch_seconds else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    def get(self, name: str | None) -> Model:
        """The model by name, the default one for None. Raises a 404 Problem."""
        name = name or self._settings.default_model
        model = self._models.get(name)
        if model is None:
            raise unknown_model(name, list(self._models))
        return model

    def refusal(self, graph: GraphKind, any_model: bool) -> float | None:
        """Seconds until the default model, or any, should have room for one more request; None where there is now."""
        models = self._models.values() if any_model else filter(None, [self._models.get(self._settings.default_model)])
        waits = [model.refusal(graph) for model in models]
        return None if not waits or None in waits else min(waits)

    def dead(self) -> str | None:
        """The identity of a model whose worker died, if there is one."""
        return next((model.identity for model in self.all() if not model.healthy), None)

    async def ready(self) -> bool:
        """Whether every model can take work; where memory was short, each is tried again."""
        for model in self.all():
            await model.probe()
        return all(model.ready for model in self.all())

    def all(self) -> list[Model]:
        """Every loaded model, by name."""
        return [self._models[name] for name in sorted(self._models)]

    async def close(self) -> None:
        """Drain every model, and those that were replaced."""
        while self._under_way:  # a reload that ends leaves a model that closes
            await asyncio.gather(*self._under_way, return_exceptions=True)
        for model in self.all():
            await model.close()

    def _directories(self) -> list[Path]:
        root = Path(self._settings.bundles)
        return sorted(p.parent for p in root.glob(f"*/{bundles.MANIFEST}") if p.parent.name[0] != ".")

    def _open(self, directory: Path) -> Model:
        bundle = bundles.load(directory)
        if bundle.manifest.name != directory.name:
            rule = f"the manifest's name is {bundle.manifest.name!r}; it must be the directory's"
            raise BundleError(directory / bundles.MANIFEST, rule)
        return Model(bundle, self._factory, self._settings, self._metrics)

    def _install(self, model: Model) -> None:
        name = model.manifest.name
        self._models[name] = model
        self._metrics.model_ready.labels(name).set_function(lambda: float(model.ready))
        described = {"device": model.runtime.device, "wanted_device": model.runtime.wanted_device}
        self._metrics.model_info.labels(name).info({"version": model.manifest.version} | described)
        log.info("loaded %s on %s with %d workers", model.identity, model.runtime.device, model.runtime.workers)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._settings.watch_seconds)
            for directory in self._directories():
                try:
                    if self._stamps.get(directory.name) != _stamp(directory):
                        await self.reload(directory.name)
                except (BundleError, RuntimeUnavailableError, KeyError, OSError):
                    continue  # logged and counted; tried again when the manifest changes once more
                except Exception:
                    log.exception("looking for a change of %s failed", directory)


def _stamp(directory: Path) -> tuple[int, int]:
    """Changes when the manifest does, which names the hash of every other file."""
    status = (directory / bundles.MANIFEST).stat()
    return status.st_mtime_ns, status.st_ino


def unknown_model(name: str, loaded: list[str]) -> Problem:
    """A 404 that says which names there are."""
    rule = f"no such model; loaded: {', '.join(sorted(loaded)) or 'none'}"
    return Problem(404, f"model {name[:80]!r}: {rule}", [{"field": "model", "value": name[:80], "rule": rule}])
