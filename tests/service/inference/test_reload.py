"""A bundle is replaced while it serves: nobody fails, nobody sees a mixture, and a bad bundle changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from service.bundle import loader
from service.bundle.manifest import MANIFEST
from service.inference.onnx import Arrays
from service.settings import Settings
from tests.fake_runtime import FakeRuntime
from tests.service import fakes

TOKEN = "correct horse"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SMILE = {"attributes": '{"Smiling": 0}', "output": "face"}


class Generation(FakeRuntime):
    """Encoder and decoder agree on where latents begin, with the other of their own version only."""

    @property
    def origin(self) -> float:
        return 1000.0 * float(self.manifest.version.split(".")[-1])

    def encoder(self, inputs: Arrays) -> Arrays:
        found = super().encoder(inputs)
        return found | {"mean": found["mean"] + np.float32(self.origin)}

    def decoder(self, inputs: Arrays) -> Arrays:
        # Golden samples and generated faces come from the prior, which knows no origin.
        encoded = inputs["latent"][:, :1] > 500
        return super().decoder(inputs | {"latent": inputs["latent"] - np.float32(self.origin) * encoded})


def set_version(directory: Path, version: str) -> None:
    fakes.rewrite_manifest(directory, lambda manifest: manifest.update(version=version))


@pytest.fixture
def directory(bundle_directory: Path) -> Path:
    set_version(bundle_directory, "1.0.1")
    return bundle_directory


@pytest.fixture
def admin(settings: Settings) -> Settings:
    return Settings(**settings.model_dump(exclude={"admin_token", "queue_images"}), admin_token=TOKEN, queue_images=200)


@asynccontextmanager
async def started(settings: Settings) -> AsyncIterator[tuple[FastAPI, httpx.AsyncClient]]:
    """The application and a client, on this event loop, so that many requests are under way at once."""
    app = fakes.application(settings, Generation)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield app, client


def play(story) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(3 * fakes.PATIENCE):
            await story

    asyncio.run(bounded())


def edit(client: httpx.AsyncClient, level: int):
    return client.post("/v1/edit", files={"image": fakes.grey(level)}, data=SMILE)


def reload(client: httpx.AsyncClient, name: str = "tiny"):
    return client.post(f"/v1/models/{name}:reload", headers=BEARER)


def test_a_new_version_takes_over(directory: Path, admin: Settings):
    async def story() -> None:
        async with started(admin) as (app, client):
            assert (await edit(client, 40)).headers["x-facet-model"] == "tiny@1.0.1"
            set_version(directory, "1.0.2")
            response = await reload(client)
            assert response.status_code == 200
            assert response.json()["version"] == response.headers["x-facet-model"].partition("@")[2] == "1.0.2"
            after = await edit(client, 40)
            assert after.headers["x-facet-model"] == "tiny@1.0.2"
            assert (fakes.pixels(after.content) == 128 + 40).all()
            value = app.state.service.metrics.registry.get_sample_value
            assert value("facet_model_reloads_total", {"result": "ok"}) == 1
            assert value("facet_model_ready", {"model": "tiny"}) == 1
            assert value("facet_queue_capacity_images", {"graph": "encoder"}) == admin.queue_images

    play(story())


@pytest.mark.slow
def test_under_load_nobody_fails_and_nobody_sees_a_mixture(directory: Path, admin: Settings):
    async def story() -> None:
        async with started(admin) as (app, client):
            reloading, seen = True, []

            async def visitor(level: int) -> None:
                while reloading:
                    response = await edit(client, level)
                    assert response.status_code == 200, response.text
                    assert (fakes.pixels(response.content) == 128 + level).all()
                    seen.append(response.headers["x-facet-model"])

            visitors = [asyncio.create_task(visitor(level)) for level in range(10, 60, 5)]
            for generation in range(2, 32):
                set_version(directory, f"1.0.{generation}")
                assert (await reload(client)).status_code == 200
            reloading = False
            await asyncio.gather(*visitors)
            assert len(set(seen)) > 10
            # What was replaced is gone once its last request has ended: one model's worth of queues is left.
            await asyncio.gather(*app.state.service.models._tasks)
            value = app.state.service.metrics.registry.get_sample_value
            assert value("facet_queue_capacity_images", {"graph": "decoder"}) == admin.queue_images
            assert value("facet_queue_images", {"graph": "decoder"}) == 0

    play(story())


def test_a_request_ends_on_the_model_it_began_with(directory: Path, admin: Settings):
    async def story() -> None:
        async with started(admin) as (app, client):
            old = app.state.service.models.get(None)
            with old.in_use():
                set_version(directory, "1.0.2")
                await reload(client)
                await asyncio.sleep(0.01)
                assert not old.closed
                call = fakes.call(app.state.service.metrics)
                faces = await old.decode(np.full((1, 3), 1040, np.float32), np.zeros((1, 5), np.float32), call)
                assert (faces == 128 + 40).all()
            await asyncio.gather(*app.state.service.models._tasks)
            assert old.closed

    play(story())


def test_a_reload_whose_caller_leaves_is_done_to_its_end(directory: Path, admin: Settings):
    async def story() -> None:
        async with started(admin) as (app, _):
            models = app.state.service.models
            set_version(directory, "1.0.2")
            leaving = asyncio.create_task(models.reload(directory.name))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            assert leaving.cancelled()
            while models._tasks:
                await asyncio.gather(*models._tasks)
            assert models.get(None).manifest.version == "1.0.2"
            # The old one closed as after any reload: one model's worth of queues is left.
            value = app.state.service.metrics.registry.get_sample_value
            assert value("facet_queue_capacity_images", {"graph": "decoder"}) == admin.queue_images

    play(story())


def damage_graph(directory: Path) -> None:
    (directory / "decoder.onnx").write_bytes(b"other bytes")


def damage_manifest(directory: Path) -> None:
    (directory / MANIFEST).write_text("{")


def other_samples(directory: Path) -> None:
    manifest = loader.read_manifest(directory)

    class Other(FakeRuntime):
        def decoder(self, inputs: Arrays) -> Arrays:
            return {"image": 255 - super().decoder(inputs)["image"]}

    fakes.draw_samples(directory, manifest, Other(manifest))


@pytest.mark.parametrize(
    ("damage", "named"),
    [(damage_graph, "decoder.onnx"), (damage_manifest, "manifest.json"), (other_samples, "samples.png")],
)
def test_a_bad_bundle_is_refused_and_the_old_one_goes_on(directory: Path, admin: Settings, damage, named: str):
    async def story() -> None:
        async with started(admin) as (app, client):
            damage(directory)
            problem = fakes.problem(await reload(client), 409)
            assert named in problem["detail"]
            assert "goes on" in problem["detail"]
            response = await edit(client, 40)
            assert response.status_code == 200
            assert response.headers["x-facet-model"] == "tiny@1.0.1"
            value = app.state.service.metrics.registry.get_sample_value
            assert value("facet_model_reloads_total", {"result": "failed"}) == 1
            assert value("facet_queue_capacity_images", {"graph": "decoder"}) == admin.queue_images

    play(story())


def test_a_new_directory_becomes_a_model(directory: Path, admin: Settings):
    async def story() -> None:
        async with started(admin) as (_, client):
            fakes.problem(await reload(client, "second"), 404)
            fakes.write_bundle(directory.with_name("second"))
            assert (await reload(client, "second")).status_code == 200
            names = [model["name"] for model in (await client.get("/v1/models")).json()["models"]]
            assert names == ["second", "tiny"]

    play(story())


@pytest.mark.parametrize("offered", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}])
def test_only_the_token_may_reload(directory: Path, admin: Settings, offered: dict[str, str]):
    with fakes.serving(admin, Generation) as client:
        response = client.post("/v1/models/tiny:reload", headers=offered)
        fakes.problem(response, 401)
        assert response.headers["www-authenticate"].startswith("Bearer")


def test_without_a_token_in_the_settings_nobody_may(client: fakes.TestClient):
    for headers in ({}, BEARER, {"Authorization": "Bearer "}):
        fakes.problem(client.post("/v1/models/tiny:reload", headers=headers), 403)


def test_the_token_is_not_shown_with_the_settings(admin: Settings):
    assert TOKEN not in repr(admin)
    assert TOKEN not in admin.model_dump_json()


def test_a_changed_manifest_is_noticed_and_a_broken_one_survived(directory: Path, admin: Settings):
    async def until(condition) -> None:
        while not condition():
            await asyncio.sleep(0.005)

    async def story() -> None:
        async with started(admin.model_copy(update={"watch_seconds": 0.01})) as (app, _):
            models, value = app.state.service.models, app.state.service.metrics.registry.get_sample_value
            set_version(directory, "1.0.2")
            await until(lambda: models.get(None).identity == "tiny@1.0.2")
            set_version(directory, "not valid, as it is far too long a version to be one " * 3)
            await until(lambda: value("facet_model_reloads_total", {"result": "failed"}))
            await asyncio.sleep(0.05)
            assert value("facet_model_reloads_total", {"result": "failed"}) == 1  # not tried again and again
            set_version(directory, "1.0.3")
            await until(lambda: models.get(None).identity == "tiny@1.0.3")

    play(story())
