"""The clients against the real service in this process, and what surrounds their requests."""

from __future__ import annotations

import asyncio

import httpx
import numpy as np
import pytest

import facet
from facet import AsyncClient, Client, RequestError
from tests.facet.conftest import ROOT, pixels, remote


def test_a_face_is_encoded(local, face):
    found = local.encode(face)
    assert (found.width, found.height) == face.size
    (shown,) = found.faces
    model = next(each for each in local.models() if each.default)
    assert found.model == f"{model.name}@{model.version}"
    assert len(shown.latent) == len(shown.log_variance) == model.latent_size
    assert list(shown.attributes) == [attribute.name for attribute in model.attributes if attribute.enabled]
    assert shown.landmarks is None
    assert shown.score is None
    assert len(shown.box) == 4


def test_known_attributes_are_kept(local, face):
    assert local.encode(face, attributes={"Smiling": -0.5}).faces[0].attributes["Smiling"] == -0.5


def test_faces_are_generated_one_by_one_or_as_a_grid(local):
    drawn = local.generate({"Smiling": 1}, count=3, seed=7)
    assert (len(drawn), drawn.seed) == (3, 7)
    assert all(picture.attributes["Smiling"] == 1 for picture in drawn)
    grid = local.generate({"Smiling": 1}, count=3, seed=7, grid=True)
    side = drawn[0].image().width
    assert grid.image().size == (2 * side, 2 * side)
    assert (grid.seed, grid.model) == (7, drawn.model)
    # The grid is large enough for a watermark, which moves pixels by up to two levels.
    first = pixels(grid.one.data)[:side, :side].astype(int)
    assert np.abs(first - pixels(drawn[0].data)).mean() < 2
    assert np.abs(first - pixels(drawn[1].data)).mean() > 10


def test_latents_are_decoded(local, face):
    shown = local.encode(face).faces[0]
    drawn = local.generate(shown.attributes, latents=[shown.latent] * 2, format="webp")
    assert [picture.media_type for picture in drawn] == ["image/webp"] * 2


def test_a_photo_is_edited_in_its_own_format(local, photo):
    edited = local.edit(photo, {"Smiling": -1, "Eyeglasses": 1}).one
    assert edited.media_type == "image/jpeg"
    assert edited.image().size == (512, 512)
    assert edited.attributes is None
    assert local.edit(photo, {"Smiling": -1}, format="png").one.media_type == "image/png"


def test_an_edit_of_strength_0_changes_nothing(local, framed):
    assert (pixels(local.edit(framed, {"Smiling": -1}, strength=0).one.data) == pixels(framed.read_bytes())).all()


@pytest.mark.slow
def test_an_encoded_face_is_edited_without_its_picture(local, face):
    assert local.edit(local.encode(face).faces[0], {"Smiling": -1}).one.attributes["Smiling"] == -1
    # The same as by the picture, where the face tells everything.
    with Client.local(ROOT / "bundles", weights=ROOT / "weights", sensitive_attributes=True) as telling:
        # By a model without an editor: one that has an editor decodes latents only.
        given = {"model": "celeba64"}
        by_picture = telling.edit(face, {"Smiling": -1}, output="face", **given).one
        by_latent = telling.edit(telling.encode(face, **given).faces[0], {"Smiling": -1}, **given).one
    assert by_latent.attributes == pytest.approx(by_picture.attributes, abs=1e-5)
    assert np.abs(pixels(by_latent.data).astype(int) - pixels(by_picture.data)).max() <= 2


def test_what_was_drawn_can_be_worked_on(local):
    drawn = local.generate({"Smiling": -1}, seed=5).one
    assert local.edit(drawn, {"Smiling": 1}).image().size == drawn.image().size


def test_a_picture_is_asked_where_it_comes_from(local, photo):
    drawn, edited = local.verify(local.generate(seed=5).one), local.verify(local.edit(photo, {"Smiling": -1}).one)
    assert (drawn.synthetic, drawn.facet, drawn.xmp["version"]) == (True, True, local.model("celeba128").version)
    assert drawn.xmp["digital_source_type"].endswith("/trainedAlgorithmicMedia")
    assert edited.xmp["digital_source_type"].endswith("/compositeWithTrainedAlgorithmicMedia")
    plain = local.verify(photo)
    assert (plain.synthetic, plain.facet, plain.xmp) == (None, False, None)


def test_an_attribute_is_swept_in_every_layout(local, face):
    strip = local.sweep(face, "Smiling", steps=3, size=64)
    assert strip.one.media_type == "image/png"
    frames = local.sweep(face, ["Smiling", "Bangs"], steps=2, size=64, layout="frames", output="face")
    assert [len(frames), frames[0].image().size] == [4, (64, 64)]
    assert frames[3].attributes["Bangs"] == 1
    film = local.sweep(
        None, "Smiling", seed=3, attributes={"Smiling": -1}, steps=3, size=64, layout="animation", format="gif"
    )
    assert film.one.image().n_frames == 4
    assert film.seed == 3


def test_errors_name_what_is_wrong(local, framed):
    with pytest.raises(RequestError, match="did you mean Smiling") as caught:
        local.edit(framed, {"Smilng": 1})
    (error,) = caught.value.errors
    assert (error["field"], error["suggestions"]) == ("attributes.Smilng", ["Smiling"])
    with pytest.raises(RequestError, match="latents") as caught:
        local.generate(latents=[[float("nan")]])
    assert caught.value.status == 422
    with pytest.raises(facet.ModelNotFound, match="celeba64"):
        local.model("other")
    with pytest.raises(RequestError) as caught:
        local.encode(b"no picture")
    assert caught.value.status == 415


def test_a_model_is_told_by_name(local):
    assert local.model("celeba64") in local.models()
    assert local.model("celeba128").default


@pytest.mark.slow
def test_both_clients_give_the_same(local, face):
    async def ask() -> list:
        async with AsyncClient.local(ROOT / "bundles", weights=ROOT / "weights") as client:
            return await asyncio.gather(
                client.encode(face),
                client.generate({"Smiling": 1}, seed=7, count=2),
                client.edit(face, {"Smiling": -1}),
                client.sweep(face, "Smiling", steps=2),
                client.models(),
                client.model("celeba64"),
                client.edit(face, {"Smilng": 1}),
                return_exceptions=True,
            )

    encoded, generated, edited, swept, models, model, error = asyncio.run(ask())
    here = local.encode(face)
    assert encoded.faces[0].latent == pytest.approx(here.faces[0].latent, abs=1e-4)
    assert generated == local.generate({"Smiling": 1}, seed=7, count=2)
    assert edited == local.edit(face, {"Smiling": -1})
    assert swept == local.sweep(face, "Smiling", steps=2)
    assert models == local.models()
    assert model == local.model("celeba64")
    assert isinstance(error, RequestError)
    assert error.errors[0]["suggestions"] == ["Smiling"]


def seen(**options) -> httpx.Request:
    requests = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"models": []})

    with remote(answer, **options) as client:
        client.models()
    return requests[0]


def test_the_service_is_told_the_time_limit():
    assert seen(timeout=12.5).headers["x-request-timeout"] == "12.5"
    assert "x-request-timeout" not in seen(timeout=None).headers
    # The service's own answer that the time is up must find somebody who still listens.
    assert seen(timeout=12.5).extensions["timeout"]["read"] > 12.5
    assert seen(timeout=2).extensions["timeout"]["connect"] == 2


def test_a_key_is_sent_from_the_argument_or_the_environment(monkeypatch):
    assert "authorization" not in seen().headers
    assert seen(key="facet_one").headers["authorization"] == "Bearer facet_one"
    monkeypatch.setenv("FACET_KEY", "facet_two")
    assert seen().headers["authorization"] == "Bearer facet_two"
    assert seen(key="facet_one").headers["authorization"] == "Bearer facet_one"
    assert seen(headers={"Authorization": "Bearer x"}).headers["authorization"] == "Bearer x"


def test_headers_and_a_path_in_the_address_are_kept():
    request = seen(headers={"Authorization": "Bearer x"})
    assert request.headers["authorization"] == "Bearer x"
    assert request.url == "http://facet.test/below/v1/models"


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://x:port"])
def test_an_address_that_is_none_is_refused(client, url):
    with pytest.raises(ValueError, match=url):
        client(url)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout):
    with pytest.raises(ValueError, match="timeout="):
        Client("http://facet.test", timeout=timeout)


def test_the_address_may_stand_in_the_environment(monkeypatch):
    def address() -> str:
        hosts = []

        def answer(request: httpx.Request) -> httpx.Response:
            hosts.append(f"{request.url.host}:{request.url.port}")
            return httpx.Response(200, json={"models": []})

        with Client(transport=httpx.MockTransport(answer)) as client:
            client.models()
        return hosts[0]

    assert address() == "127.0.0.1:8000"
    monkeypatch.setenv("FACET_URL", "http://elsewhere:9")
    assert address() == "elsewhere:9"
