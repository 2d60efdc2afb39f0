"""Prometheus metrics: one object that owns them all, on a registry that is passed in."""

from __future__ import annotations

import platform
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics

# In seconds. A stage takes 10 us to 1 s, a request 1 ms to 30 s.
_STAGE_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# The `_created` series would double the number of counter series; nothing here uses them.
disable_created_metrics()


class _CachedLabels:
    """Caches the children of a labelled metric: each look-up by prometheus_client takes a lock and 3 us.

    A request makes about a dozen look-ups. Children are never removed.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cached: dict[tuple[str, ...], Self] = {}

    def labels(self, *values: str) -> Self:
        """The child with these label values, in the order of the label names."""
        child = self._cached.get(values)
        if child is None:
            child = self._cached[values] = super().labels(*values)
        return child


class _Counter(_CachedLabels, Counter):
    pass


class _Gauge(_CachedLabels, Gauge):
    pass


class _Histogram(_CachedLabels, Histogram):
    pass


class Metrics:
    """All metrics of the service. A test compares them with the table in `docs/observability.md`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry

        def counter(name: str, text: str, labels: tuple[str, ...]) -> Counter:
            return _Counter(f"facet_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return _Gauge(f"facet_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return _Histogram(f"facet_{name}", text, labels, buckets=buckets, registry=registry)

        self.requests = counter("requests", "Requests answered, by route and status code.", ("endpoint", "code"))
        self.rejected = counter("requests_rejected", "Requests refused before any work, by reason.", ("reason",))
        self.cancelled = counter("requests_cancelled", "Requests whose client left, by stage.", ("stage",))
        self.images = counter("images", "Faces encoded, decoded, generated or edited.", ("operation",))
        self.batches = counter("batches", "Batches run.", ("graph",))
        self.padding = counter("batch_padding_images", "Rows added to fill a batch up to its bucket.", ("graph",))
        self.reloads = counter("model_reloads", "Attempts to reload a model.", ("result",))
        self.key_reloads = counter("key_reloads", "Changes of the file of keys that were seen.", ("result",))
        self.latent_cache = counter("latent_cache_requests", "Pictures looked up in the latent cache.", ("result",))
        self.inference_errors = counter("inference_errors", "Batches that failed, by exception type.", ("kind",))
        self.request_duration = histogram(
            "request_duration_seconds", "From first byte to last, by route.", ("endpoint",), _REQUEST_BUCKETS
        )
        self.stage_duration = histogram("stage_duration_seconds", "One stage of a request.", ("stage",), _STAGE_BUCKETS)
        self.queue_wait = histogram(
            "queue_wait_seconds", "From admission to the first batch.", ("graph",), _STAGE_BUCKETS
        )
        self.batch_images = histogram("batch_images", "Images in a batch, without padding.", ("graph",), _BATCH_BUCKETS)
        self.batch_duration = histogram("batch_duration_seconds", "One batch in the graph.", ("graph",), _STAGE_BUCKETS)
        self.in_flight = gauge("requests_in_flight", "Requests being answered.")
        self.body_bytes = gauge("request_body_bytes", "Bytes of request bodies in memory.")
        self.queue_images = gauge("queue_images", "Images waiting.", ("graph",))
        self.queue_capacity = gauge("queue_capacity_images", "Images that may wait.", ("graph",))
        self.latent_cache_bytes = gauge("latent_cache_bytes", "Bytes in the latent cache.")
        self.model_ready = gauge("model_ready", "1 while the model can answer.", ("model",))
        self.build_info = Info("facet_build", "Version of the service.", registry=registry)
        self.model_info = Info("facet_model", "Loaded models.", ("model",), registry=registry)
        # rate() needs a first sample: create these series at start, so that the first event already counts.
        for reason in (
            "queue_full",
            "codecs_full",
            "body_too_large",
            "bodies_full",
            "rate_limited",
            "images_in_flight",
            "unauthorized",
            "forbidden",
            "connections_full",
            "slow_client",
            "head_too_large",
            "malformed",
        ):
            self.rejected.labels(reason)
        for result in ("ok", "failed"):
            self.reloads.labels(result)
            self.key_reloads.labels(result)

    def observe_batch(self, graph: str, size: int, bucket: int, seconds: float) -> None:
        """Count one batch of `size` images run as `bucket` rows in `seconds`."""
        self.batches.labels(graph).inc()
        self.padding.labels(graph).inc(bucket - size)
        self.batch_images.labels(graph).observe(size)
        self.batch_duration.labels(graph).observe(seconds)

    def describe_build(self, version: str) -> None:
        """Fill `facet_build_info`."""
        self.build_info.info({"version": version, "python": platform.python_version()})
