"""The service inside this process: how it starts, what it cannot do, and how it ends."""

from __future__ import annotations

import asyncio
import builtins
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from facet import AsyncClient, Client, RequestError, ServiceError, SetupError, TimedOut, calls, local
from facet.in_process import InProcess
from service.pipeline.pipeline import Pipeline
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.facet.conftest import ROOT
from tests.fake_runtime import FakeRuntime
from tests.service import fakes
from tests.service.fakes import HeldRuntime


@pytest.fixture
def tiny(tmp_path):
    """Settings of a service with a bundle that no runtime can load."""
    fakes.write_bundle(tmp_path / "bundles" / "tiny")
    return Settings(bundles=tmp_path / "bundles", weights=tmp_path, default_model="tiny", codec_threads=2)


def in_process(settings: Settings, runtime: type[FakeRuntime], timeout: float | None = None) -> InProcess:
    metrics = Metrics(CollectorRegistry())
    return InProcess(Pipeline.of(settings, lambda bundle, _: runtime(bundle.manifest), metrics), timeout)


@pytest.mark.slow
def test_settings_are_the_services_own():
    with Client.local(ROOT / "bundles", weights=ROOT / "weights", max_count=2) as client:
        assert len(client.generate(count=2)) == 2
        with pytest.raises(RequestError, match="at most 2 faces"):
            client.generate(count=3)


@pytest.mark.slow
def test_no_key_is_asked_of_the_own_process(monkeypatch):
    monkeypatch.setenv("FACET_KEYS_FILE", "/nowhere/keys.json")
    with Client.local(ROOT / "bundles") as client:
        assert client.model("celeba128").default
    with pytest.raises(SetupError, match=r"keys\.json'?: no key is needed"):
        local.opened(ROOT / "bundles", None, None, {"keys_file": "/nowhere/keys.json"})


def test_the_time_limit_is_the_services_too():
    service = local.opened(ROOT / "bundles", None, 90.0, {})
    assert service.pipeline.settings.request_timeout == 90
    service = local.opened(ROOT / "bundles", None, 90.0, {"request_timeout": 5})
    assert service.pipeline.settings.request_timeout == 5


def test_bundles_of_the_checkout_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = local.opened(None, None, None, {}).pipeline.settings
    assert found.bundles == ROOT / "bundles"
    assert found.weights == (ROOT / "weights" if (ROOT / "weights").exists() else Path("weights"))
    monkeypatch.setenv("FACET_BUNDLES", "mine")
    assert str(local.opened(None, None, None, {}).pipeline.settings.bundles) == "mine"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bundles": "/nowhere"}, "/nowhere: holds no bundle"),
        ({"max_batch": -1}, "max_batch=-1"),
        ({"max_btch": 1}, "max_btch: no such setting"),
        pytest.param({"default_model": "other"}, "has no bundle 'other'", marks=pytest.mark.slow),  # loads all others
        ({"c2pa_private_key": "/nowhere.pem"}, "/nowhere.pem: is of no use alone"),
    ],
)
def test_what_cannot_start_says_why(settings, said):
    with pytest.raises(SetupError, match=said):
        Client.local(**{"bundles": ROOT / "bundles"} | settings)


def test_a_refused_bundle_is_told_by_the_first_call_too():
    async def ask() -> None:
        client = AsyncClient.local("/nowhere")
        try:
            await client.models()
        finally:
            await client.aclose()

    with pytest.raises(SetupError, match="/nowhere"):
        asyncio.run(ask())


@pytest.mark.parametrize("missing", ["onnxruntime", "service.pipeline.pipeline"])
def test_a_missing_extra_is_named(monkeypatch, missing):
    plain = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == missing:
            raise ImportError(f"No module named {name!r}")
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SetupError, match=r"pip install '\.\["):
        local.opened(ROOT / "bundles", None, None, {})


def test_closing_finishes_what_is_under_way(tiny):
    async def close_meanwhile() -> tuple[int, bool]:
        service = in_process(tiny, HeldRuntime)
        await service.start()
        runtime = service.pipeline.models.get(None).runtime
        runtime.hold()
        drawing = asyncio.create_task(service.send(calls.generate(count=1)))
        await asyncio.to_thread(runtime.entered.wait, fakes.PATIENCE)
        closing = asyncio.create_task(service.aclose())
        for _ in range(10):
            await asyncio.sleep(0)
        early = closing.done()
        runtime.release()
        await closing
        with pytest.raises(SetupError, match="closed"):
            await service.send(calls.generate())
        return len(await drawing), early

    assert asyncio.run(close_meanwhile()) == (1, False)


def test_a_failure_inside_is_the_answer_a_server_gives(tiny):
    async def ask() -> None:
        async with in_process(tiny, fakes.FailingRuntime) as service:
            service.pipeline.models.get(None).runtime.error = RuntimeError("boom")
            await service.send(calls.generate())

    with pytest.raises(ServiceError) as caught:
        asyncio.run(ask())
    assert caught.value.status == 500
    assert "boom" not in str(caught.value)


def test_a_call_whose_time_is_up_is_an_error_and_leaves_the_queue(tiny):
    async def ask() -> None:
        async with in_process(tiny, HeldRuntime, timeout=0.05) as service:
            runtime = service.pipeline.models.get(None).runtime
            runtime.hold()
            try:
                with pytest.raises(TimedOut) as caught:
                    await service.send(calls.generate(count=3))
            finally:
                runtime.release()
            assert caught.value.status == 504
            waiting = service.pipeline.metrics.registry.get_sample_value
            assert waiting("facet_queue_images", {"graph": "decoder"}) == 0

    asyncio.run(ask())


def test_pictures_beyond_the_body_limit_are_refused(tiny):
    service = in_process(tiny.model_copy(update={"max_body_bytes": 1024}), FakeRuntime)

    async def encode() -> None:
        async with service:
            await service.send(calls.encode(bytes(1025)))

    with pytest.raises(ServiceError, match="image: has 1025 bytes; at most 1024 are accepted") as caught:
        asyncio.run(encode())
    assert caught.value.status == 413


def test_formats_that_cannot_be_written_are_refused(local):
    with pytest.raises(RequestError, match="format: must be png or jpeg or webp"):
        local.sweep(None, "Smiling", seed=1, steps=2, format="gif")
    with pytest.raises(RequestError, match="format: must be webp or gif"):
        local.sweep(None, "Smiling", seed=1, steps=2, layout="animation", format="png")
    with pytest.raises(RequestError, match="format"):
        local.generate(format="tiff", grid=True)


def test_threads_may_share_a_client(local):
    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(lambda seed: local.generate(seed=seed), range(8)))
    assert [each.seed for each in drawn] == list(range(8))
