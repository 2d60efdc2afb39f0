"""Latents of pictures that come again are kept within their bound, under everything that they depend on."""

from __future__ import annotations

import numpy as np
from prometheus_client import CollectorRegistry

from service.pipeline.latent_cache import Encoded, LatentCache
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.service import fakes


def encoded(value: float) -> Encoded:
    mean, log_variance, attributes = (np.zeros((1, size), np.float32) for size in (4, 4, 2))
    return Encoded(mean + np.float32(value), log_variance, attributes, [((0, 0, 1, 1), None)], 9, 9)


SIZE = encoded(0).size
KNOWN = np.array([np.nan, 1], np.float32)


def cache_of(entries: int) -> tuple[LatentCache, CollectorRegistry]:
    registry = CollectorRegistry()
    return LatentCache(entries * SIZE, Metrics(registry)), registry


def test_what_was_put_is_found_again():
    cache, registry = cache_of(2)
    key = cache.key(b"picture", KNOWN, "sha", None)
    assert cache.get(key) is None
    cache.put(key, encoded(7))
    assert cache.get(key).mean.tolist() == [[7] * 4]
    counted = {
        r: registry.get_sample_value("facet_latent_cache_requests_total", {"result": r}) for r in ("hit", "miss")
    }
    assert counted == {"hit": 1, "miss": 1}
    assert registry.get_sample_value("facet_latent_cache_bytes") == SIZE


def test_a_key_depends_on_the_picture_what_is_known_of_it_and_the_encoder():
    cache, _ = cache_of(1)
    keys = {
        cache.key(b"picture", KNOWN, "sha", None),
        cache.key(b"another", KNOWN, "sha", None),
        cache.key(b"picture", -KNOWN, "sha", None),
        cache.key(b"picture", KNOWN, "new", None),
        cache.key(b"picture", KNOWN, "sha", True),
    }
    assert len(keys) == 5
    assert cache.key(b"picture", KNOWN.copy(), "sha", None) in keys


def test_the_least_recently_used_goes_first():
    cache, registry = cache_of(2)
    keys = [cache.key(bytes([i]), KNOWN, "sha", None) for i in range(3)]
    cache.put(keys[0], encoded(0))
    cache.put(keys[1], encoded(1))
    cache.get(keys[0])
    cache.put(keys[2], encoded(2))
    assert [cache.get(key) is not None for key in keys] == [True, False, True]
    assert registry.get_sample_value("facet_latent_cache_bytes") == 2 * SIZE


def test_putting_twice_counts_once():
    cache, registry = cache_of(5)
    key = cache.key(b"picture", KNOWN, "sha", None)
    cache.put(key, encoded(1))
    cache.put(key, encoded(2))
    assert cache.get(key).mean[0, 0] == 2
    assert registry.get_sample_value("facet_latent_cache_bytes") == SIZE


def test_an_entry_larger_than_all_the_room_is_not_kept():
    registry = CollectorRegistry()
    cache = LatentCache(SIZE - 1, Metrics(registry))
    key = cache.key(b"picture", KNOWN, "sha", None)
    cache.put(key, encoded(1))
    assert cache.get(key) is None
    assert registry.get_sample_value("facet_latent_cache_bytes") == 0


def test_without_room_nothing_is_even_looked_up():
    cache, registry = cache_of(0)
    key = cache.key(b"picture", KNOWN, "sha", None)
    assert key is None
    cache.put(key, encoded(1))
    assert cache.get(key) is None
    assert registry.get_sample_value("facet_latent_cache_requests_total", {"result": "miss"}) is None


def test_a_face_that_is_edited_twice_is_encoded_once(settings: Settings):
    with fakes.serving(settings.model_copy(update={"latent_cache_bytes": 10**6})) as client:
        pictures = []
        for smile in (1, -1, 1):
            form = {"attributes": f'{{"Smiling": {smile}}}'}
            pictures.append(client.post("/v1/edit", files={"image": fakes.grey(40)}, data=form).content)
        assert pictures[0] == pictures[2] != pictures[1]
        assert fakes.sample(client, "facet_batches_total", graph="encoder") == 1
        assert fakes.sample(client, "facet_batches_total", graph="decoder") == 3
        first, second = (client.post("/v1/encode", files={"image": fakes.grey(40)}).json() for _ in range(2))
        assert first == second
        assert fakes.sample(client, "facet_batches_total", graph="encoder") == 1


def test_an_entry_of_the_largest_face_answers_nobody_who_wants_all():
    cache, _ = cache_of(4)
    cache.put(b"key", encoded(1), largest=True)
    assert cache.get(b"key") is None
    assert cache.get(b"key", largest=True).mean[0, 0] == 1
    cache.put(b"key", encoded(2))
    assert cache.get(b"key").mean[0, 0] == 2
    assert cache.get(b"key", largest=True).mean[0, 0] == 2
