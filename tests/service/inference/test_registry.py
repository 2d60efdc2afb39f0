"""Bundles become models when the service starts; a directory that makes no sense stops it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service import system
from service.bundle.loader import Bundle
from service.bundle.manifest import BundleError, Manifest
from service.errors import DeadlineError, Problem
from service.inference.onnx import Arrays
from service.inference.registry import Models
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.fake_runtime import FakeRuntime
from tests.service import fakes
from tests.service.fakes import PATIENCE


class CountingRuntime(FakeRuntime):
    """Remembers the size of every batch."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest)
        self.sizes: dict[str, list[int]] = {"encoder": [], "decoder": []}

    def encoder(self, inputs: Arrays) -> Arrays:
        self.sizes["encoder"].append(len(inputs["image"]))
        return super().encoder(inputs)

    def decoder(self, inputs: Arrays) -> Arrays:
        self.sizes["decoder"].append(len(inputs["latent"]))
        return super().decoder(inputs)


def models_of(settings: Settings) -> Models:
    return Models(settings, lambda bundle, _: CountingRuntime(bundle.manifest), Metrics(CollectorRegistry()))


@pytest.fixture
def models(settings: Settings) -> Models:
    return models_of(settings)


def test_every_bundle_below_the_directory_is_loaded_in_order(models: Models, bundle_directory: Path):
    for name in ("zebra", "alpha"):
        fakes.write_bundle(bundle_directory.parent / name)
    models.load_all()
    assert [model.manifest.name for model in models.all()] == ["alpha", "tiny", "zebra"]


def test_hidden_and_other_directories_are_no_bundles(models: Models, bundle_directory: Path):
    fakes.write_bundle(bundle_directory.parent / "unfinished")
    (bundle_directory.parent / "unfinished").rename(bundle_directory.parent / ".unfinished")
    (bundle_directory.parent / "notes").mkdir()
    (bundle_directory.parent / "README.md").write_text("hello")
    models.load_all()
    assert [model.identity for model in models.all()] == ["tiny@1.2.3"]


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_without_any_bundle_the_error_names_the_setting(settings: Settings, tmp_path: Path, name: str):
    (tmp_path / "empty").mkdir()
    models = models_of(settings.model_copy(update={"bundles": tmp_path / name}))
    with pytest.raises(BundleError, match=f"{name}.*FACET_BUNDLES"):
        models.load_all()


def test_without_the_default_model_the_error_names_the_setting(settings: Settings):
    models = models_of(settings.model_copy(update={"default_model": "other"}))
    with pytest.raises(BundleError, match=r"other.*FACET_DEFAULT_MODEL"):
        models.load_all()


def test_a_bundle_in_a_directory_of_another_name_is_refused(models: Models, bundle_directory: Path):
    bundle_directory.rename(bundle_directory.parent / "renamed")
    with pytest.raises(BundleError, match=r"renamed/manifest\.json.*'tiny'"):
        models.load_all()


def test_a_damaged_bundle_is_refused(models: Models, bundle_directory: Path):
    (bundle_directory / "decoder.onnx").write_bytes(b"NOT really a decoder")
    with pytest.raises(BundleError, match=r"decoder\.onnx"):
        models.load_all()


def test_every_batch_size_is_warmed_before_the_first_request(models: Models):
    models.load_all()
    golden_samples = [4] * 8
    assert models.get(None).runtime.sizes == {"encoder": [4, 2, 1], "decoder": [4, 2, 1, *golden_samples]}


def test_a_model_is_found_by_name_and_the_default_without(models: Models, bundle_directory: Path):
    fakes.write_bundle(bundle_directory.parent / "other")
    models.load_all()
    assert models.get("other").manifest.name == "other"
    assert models.get(None).manifest.name == "tiny"


def test_an_unknown_model_is_404_and_says_which_there_are(models: Models):
    models.load_all()
    with pytest.raises(Problem) as caught:
        models.get("no " * 200)
    assert caught.value.status == 404
    (error,) = caught.value.errors
    assert error["field"] == "model"
    assert error["value"] == ("no " * 200)[:80]
    assert "tiny" in error["rule"]


def test_loading_is_announced_in_the_metrics(settings: Settings):
    registry = CollectorRegistry()
    models = Models(settings, lambda bundle, _: FakeRuntime(bundle.manifest), Metrics(registry))
    models.load_all()
    assert registry.get_sample_value("facet_model_ready", {"model": "tiny"}) == 1
    labels = {"model": "tiny", "version": "1.2.3", "device": "fake", "wanted_device": "fake"}
    assert registry.get_sample_value("facet_model_info", labels) == 1
    assert registry.get_sample_value("facet_queue_capacity_images", {"graph": "decoder"}) == settings.queue_images
    asyncio.run(models.close())
    assert registry.get_sample_value("facet_model_ready", {"model": "tiny"}) == 0


def test_encoding_and_decoding_run_the_graphs_and_record_their_stages(models: Models):
    call = fakes.call(models._metrics)

    async def story() -> None:
        models.load_all()
        model = models.get(None)
        unknown = np.full((1, 5), np.nan, np.float32)
        found = await model.encode(np.full((1, 8, 8, 3), 40, np.uint8), unknown, call)
        assert found["mean"].tolist() == [[40, 40, 40]]
        assert found["attribute_estimates"].tolist() == [[0.25] * 5]
        faces = await model.decode(found["mean"], found["attribute_estimates"], call)
        assert (faces == 128 + 25 + 40).all()
        assert faces.shape == (1, 8, 8, 3)
        await models.close()

    asyncio.run(story())
    assert [stage.partition(";")[0] for stage in call.server_timing.split(", ")] == ["queue", "infer"]
    counted = models._metrics.registry.get_sample_value
    assert counted("facet_stage_duration_seconds_count", {"stage": "infer"}) == 2


def test_a_request_whose_time_is_up_gets_no_more_of_it(models: Models):
    async def story() -> None:
        models.load_all()
        model = models.get(None)
        late = fakes.call(models._metrics)
        late._started -= 3600
        with pytest.raises(DeadlineError):
            await model.decode(np.zeros((1, 3), np.float32), np.zeros((1, 5), np.float32), late)
        await models.close()

    asyncio.run(story())


def test_a_model_is_healthy_until_one_of_its_workers_dies(models: Models):
    models.load_all()
    model = models.get(None)
    assert model.healthy
    model.encoder.failure = RuntimeError()
    assert not model.healthy


@pytest.mark.parametrize(("requested", "largest"), [(0, 64), (5, 5)])
def test_the_runtime_knows_the_largest_batch_that_pays_unless_it_is_set(tmp_path: Path, requested: int, largest: int):
    fakes.write_bundle(tmp_path / "tiny")
    settings = Settings(bundles=tmp_path, default_model="tiny", max_batch=requested, queue_images=10)
    models = Models(settings, lambda bundle, _: FakeRuntime(bundle.manifest, workers=2), Metrics(CollectorRegistry()))
    models.load_all()
    assert models.get(None).decoder.most_images == 10 + 2 * largest


def test_a_model_that_was_replaced_leaves_memory_at_once(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    """Not when the collector of cycles comes along: by then many more may have been loaded. Then heaps are trimmed."""
    gone: list[weakref.ref] = []
    left_when_trimmed: list[list[object]] = []
    monkeypatch.setattr(system, "trim_heaps", lambda: left_when_trimmed.append([each() for each in gone]))

    def runtime(bundle: Bundle, _: Settings) -> FakeRuntime:
        return FakeRuntime(bundle.manifest, computes_here=True)

    async def story() -> None:
        models = Models(settings, runtime, Metrics(CollectorRegistry()))
        models.load_all()
        old = models.get(None)
        gone.extend(weakref.ref(each) for each in (old, old.runtime, old.encoder, old.sampler))
        old.sampler.attributes(np.full(len(old.manifest.attributes), np.nan, np.float32), 1, 1)
        inputs = {"latent": np.zeros((1, old.manifest.latent_size), np.float32)}
        inputs["attributes"] = np.zeros((1, len(old.manifest.attributes)), np.float32)
        await old.decoder.submit(inputs, PATIENCE)
        del old
        await models.reload(settings.default_model)
        await models.close()
        assert left_when_trimmed == [[None] * 4]

    gc.collect()
    gc.disable()
    try:
        asyncio.run(story())
    finally:
        gc.enable()
