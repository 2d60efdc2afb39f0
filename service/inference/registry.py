"""The registry of loaded models, with atomic reload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from service import system
from service.bundle import loader
from service.bundle.manifest import MANIFEST, BundleError, GraphKind
from service.errors import Problem, RuntimeUnavailableError, printable
from service.inference.model import Model
from service.inference.onnx import RuntimeFactory
from service.settings import Settings
from service.telemetry.metrics import Metrics

Result = TypeVar("Result")
log = logging.getLogger(__name__)


class Models:
    """The models of all bundles in one directory, by name. A model may be reloaded while it serves."""

    def __init__(self, settings: Settings, runtime_factory: RuntimeFactory, metrics: Metrics) -> None:
        self._settings, self._factory, self._metrics = settings, runtime_factory, metrics
        self._models: dict[str, Model] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()  # reloads, and models that are closing

    def load_all(self) -> None:
        """Load each bundle. Raises BundleError for the first that is refused, or if there is none."""
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

    def load(self, name: str) -> Model:
        """Load the bundle of that name alone. Raises BundleError."""
        self._install(self._open(self._settings.bundles / name))
        return self._models[name]

    async def reload(self, name: str) -> Model:
        """Load, verify, warm up and check the bundle of that name, then replace the model that serves.

        Requests in flight stay on the model they started on. Raises BundleError or RuntimeUnavailableError, and the old
        model stays; KeyError if there is no such bundle. A reload is not cancelled with its caller: a thread that loads
        cannot be stopped, and its model has to be installed or closed.
        """
        return await asyncio.shield(self._start(self._reload(name)))

    def _start(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """A task that `close` waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
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
                self._start(_retire(old))
            return model

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """A context in which bundles that change on disk are reloaded, if the settings say so."""
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
        """The identity of a model whose worker died, or None."""
        return next((model.identity for model in self.all() if not model.healthy), None)

    async def ready(self) -> bool:
        """Whether every model can take work. Models that ran out of memory are probed again."""
        for model in self.all():
            await model.probe()
        return all(model.ready for model in self.all())

    def all(self) -> list[Model]:
        """Every loaded model, sorted by name."""
        return [self._models[name] for name in sorted(self._models)]

    async def close(self) -> None:
        """Drain and close every model, and those that were replaced."""
        while self._tasks:  # a finished reload adds the task that closes the old model
            await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self.all():
            await model.close()

    def _directories(self) -> list[Path]:
        root = Path(self._settings.bundles)
        return sorted(p.parent for p in root.glob(f"*/{MANIFEST}") if p.parent.name[0] != ".")

    def _open(self, directory: Path) -> Model:
        bundle = loader.load(directory)
        if bundle.manifest.name != directory.name:
            rule = f"the manifest's name is {bundle.manifest.name!r}; it must be the directory's"
            raise BundleError(directory / MANIFEST, rule)
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
                    continue  # logged and counted; tried again when the manifest changes again
                except Exception:
                    log.exception("checking %s for changes failed", directory)


async def _retire(model: Model) -> None:
    """Close a model that was replaced, and give back what its graphs held."""
    await model.close()
    del model
    await asyncio.to_thread(system.trim_heaps)


def _stamp(directory: Path) -> tuple[int, int]:
    """Changes with the manifest, which has the hashes of all other files."""
    status = (directory / MANIFEST).stat()
    return status.st_mtime_ns, status.st_ino


def unknown_model(name: str, loaded: list[str]) -> Problem:
    """A 404 Problem that lists the loaded models."""
    rule = f"no such model; loaded: {', '.join(sorted(loaded)) or 'none'}"
    value = printable(name)[:80]
    return Problem(404, f"model {value!r}: {rule}", [{"field": "model", "value": value, "rule": rule}])
