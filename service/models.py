"""The models that are loaded: each a verified bundle, its runtime, and one batcher per graph."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from service import bundle as bundles
from service.batcher import Batcher, buckets
from service.bundle import Bundle, Manifest
from service.calls import Call
from service.metrics import Metrics
from service.problems import Problem
from service.runtime import RuntimeFactory, warm
from service.settings import Settings
from service.vectors import Sampler

log = logging.getLogger(__name__)


class Model:
    """One loaded bundle."""

    def __init__(self, bundle: Bundle, runtime_factory: RuntimeFactory, settings: Settings, metrics: Metrics) -> None:
        self.bundle = bundle
        self.runtime = runtime_factory(bundle, settings)
        warm(self.runtime, bundle.manifest, buckets(settings.max_batch))
        workers = self.runtime.workers
        self._executor = ThreadPoolExecutor(2 * workers, thread_name_prefix=f"infer-{bundle.manifest.name}")
        limits = {"max_batch": settings.max_batch, "capacity": settings.queue_images, "workers": workers}
        self.encoder = Batcher("encoder", self.runtime.encoder, self._executor, metrics, **limits)
        self.decoder = Batcher("decoder", self.runtime.decoder, self._executor, metrics, **limits)
        self.sampler = Sampler(bundle.manifest.prior, bundle.manifest.attribute_groups)
        self._timeout = settings.request_timeout
        self.closed = False

    @property
    def manifest(self) -> Manifest:
        return self.bundle.manifest

    @property
    def identity(self) -> str:
        return self.bundle.identity

    @property
    def healthy(self) -> bool:
        """Whether both workers live."""
        return self.encoder.failure is None and self.decoder.failure is None

    async def encode(self, image: np.ndarray, attributes: np.ndarray, call: Call) -> dict[str, np.ndarray]:
        """uint8 [N, S, S, 3] and f32 [N, K] (NaN unknown) to mean, log_variance [N, Z], attribute_estimates [N, K].

        `call` is told the seconds spent in each stage, and limits all of its request's together. Raises BatcherError.
        """
        return await self._submit(self.encoder, {"image": image, "attributes": attributes}, call)

    async def decode(self, latent: np.ndarray, attributes: np.ndarray, call: Call) -> np.ndarray:
        """f32 [N, Z] and f32 [N, K] to uint8 [N, S, S, 3]; otherwise as `encode`."""
        return (await self._submit(self.decoder, {"latent": latent, "attributes": attributes}, call))["image"]

    async def _submit(self, batcher: Batcher, inputs: dict[str, np.ndarray], call: Call) -> dict[str, np.ndarray]:
        computed = await batcher.submit(inputs, self._timeout - call.elapsed)
        call.add("queue", computed.queue_seconds)
        call.add("infer", computed.infer_seconds)
        return computed.outputs

    async def close(self) -> None:
        """Finish what was admitted, then free the threads."""
        self.closed = True
        await self.encoder.close()
        await self.decoder.close()
        self._executor.shutdown()


class Models:
    """Every bundle below one directory, by name."""

    def __init__(self, settings: Settings, runtime_factory: RuntimeFactory, metrics: Metrics) -> None:
        self._settings, self._factory, self._metrics = settings, runtime_factory, metrics
        self._models: dict[str, Model] = {}

    def load_all(self) -> None:
        """Load each bundle. Raises BundleError for the first that is refused, or where there is none."""
        root = self._settings.bundles
        directories = sorted(p.parent for p in Path(root).glob(f"*/{bundles.MANIFEST}") if p.parent.name[0] != ".")
        if not directories:
            raise bundles.BundleError(root, "holds no bundle (FACET_BUNDLES must name a directory of bundles)")
        for directory in directories:
            bundle = bundles.load(directory)
            if bundle.manifest.name != directory.name:
                rule = f"the manifest's name is {bundle.manifest.name!r}; it must be the directory's"
                raise bundles.BundleError(directory / bundles.MANIFEST, rule)
            self._models[bundle.manifest.name] = Model(bundle, self._factory, self._settings, self._metrics)
            self._announce(self._models[bundle.manifest.name])
        if self._settings.default_model not in self._models:
            rule = f"has no bundle {self._settings.default_model!r}, which FACET_DEFAULT_MODEL names"
            raise bundles.BundleError(root, rule)

    def _announce(self, model: Model) -> None:
        name = model.manifest.name
        self._metrics.model_ready.labels(name).set_function(lambda: float(model.healthy and not model.closed))
        self._metrics.model_info.labels(name).info({"version": model.manifest.version, "device": model.runtime.device})
        log.info("loaded %s on %s with %d workers", model.identity, model.runtime.device, model.runtime.workers)

    def get(self, name: str | None) -> Model:
        """The model by name, the default one for None. Raises a 404 Problem."""
        name = name or self._settings.default_model
        model = self._models.get(name)
        if model is None:
            known = ", ".join(sorted(self._models)) or "none"
            rule = f"no such model; loaded: {known}"
            raise Problem(404, f"model {name[:80]!r}: {rule}", [{"field": "model", "value": name[:80], "rule": rule}])
        return model

    def all(self) -> list[Model]:
        """Every loaded model, by name."""
        return [self._models[name] for name in sorted(self._models)]

    async def close(self) -> None:
        """Drain every model."""
        for model in self.all():
            await model.close()
