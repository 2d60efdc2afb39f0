"""The service inside this process: how it starts, what it cannot do, and how it ends."""

from __future__ import annotations

import asyncio
import builtins
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from facet import AsyncClient, Client, RequestError, SetupError, local
from service.settings import Settings
from tests.facet.conftest import ROOT
from tests.service import fakes
from tests.service.fakes import HeldRuntime


@pytest.fixture
def tiny(tmp_path):
    """Settings of a service with a bundle that no runtime can load."""
    fakes.write_bundle(tmp_path / "bundles" / "tiny")
    return Settings(bundles=tmp_path / "bundles", weights=tmp_path, default_model="tiny", codec_threads=2)


def test_settings_are_the_services_own():
    with Client.local(ROOT / "bundles", weights=ROOT / "weights", max_count=2) as client:
        assert len(client.generate(count=2)) == 2
        with pytest.raises(RequestError, match="at most 2 faces"):
            client.generate(count=3)


def test_no_key_is_asked_of_the_own_process(monkeypatch):
    monkeypatch.setenv("FACET_KEYS_FILE", "/nowhere/keys.json")
    assert local.application(ROOT / "bundles", None, None, {}).state.service.access.is_open
    with pytest.raises(SetupError, match=r"keys\.json: cannot be read"):
        local.application(ROOT / "bundles", None, None, {"keys_file": "/nowhere/keys.json"})


def test_the_time_limit_is_the_services_too():
    app = local.application(ROOT / "bundles", None, 90.0, {})
    assert app.state.service.settings.request_timeout == 90
    app = local.application(ROOT / "bundles", None, 90.0, {"request_timeout": 5})
    assert app.state.service.settings.request_timeout == 5


def test_bundles_of_the_checkout_are_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = local.application(None, None, None, {}).state.service.settings
    assert found.bundles == ROOT / "bundles"
    assert found.weights == (ROOT / "weights" if (ROOT / "weights").exists() else Path("weights"))
    monkeypatch.setenv("FACET_BUNDLES", "mine")
    assert str(local.application(None, None, None, {}).state.service.settings.bundles) == "mine"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bundles": "/nowhere"}, "/nowhere: holds no bundle"),
        ({"max_batch": -1}, "max_batch=-1"),
        ({"max_btch": 1}, "max_btch: no such setting"),
        ({"default_model": "other"}, "has no bundle 'other'"),
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


@pytest.mark.parametrize("missing", ["onnxruntime", "service.app"])
def test_a_missing_extra_is_named(monkeypatch, missing):
    plain = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == missing:
            raise ImportError(f"No module named {name!r}")
        return plain(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(SetupError, match=r"pip install '\.\["):
        local.application(ROOT / "bundles", None, None, {})


def test_closing_finishes_what_is_under_way(tiny):
    async def close_meanwhile() -> tuple[int, bool]:
        app = fakes.application(tiny, HeldRuntime)
        service = local.InProcess(app)
        http = httpx.AsyncClient(transport=service, base_url=local.URL)
        await http.__aenter__()
        runtime = app.state.service.models.get(None).runtime
        runtime.hold()
        asked = asyncio.create_task(http.post("/v1/generate", json={"count": 1}))
        await asyncio.to_thread(runtime.entered.wait, fakes.PATIENCE)
        closing = asyncio.create_task(http.aclose())
        for _ in range(10):
            await asyncio.sleep(0)
        early = closing.done()
        runtime.release()
        await closing
        return (await asked).status_code, early

    assert asyncio.run(close_meanwhile()) == (200, False)


def test_a_failure_inside_is_the_answer_a_server_gives(tiny):
    async def ask() -> httpx.Response:
        app = fakes.application(tiny, fakes.FailingRuntime)
        async with httpx.AsyncClient(transport=local.InProcess(app), base_url=local.URL) as http:
            app.state.service.models.get(None).runtime.error = RuntimeError("boom")
            return await http.post("/v1/generate", json={})

    assert asyncio.run(ask()).status_code == 500


def test_threads_may_share_a_client(local):
    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(lambda seed: local.generate(seed=seed), range(8)))
    assert [each.seed for each in drawn] == list(range(8))
