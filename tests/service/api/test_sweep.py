"""Sweeps over HTTP, with the tiny model whose faces are flat: 128 + 100 * Smiling + the first latent value."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.service.fakes import ATTRIBUTES, TestClient, encoded, fields, grey, pixels, problem

LATENT = {"latent": [5, 0, 0], "source_attributes": dict.fromkeys(ATTRIBUTES, -1) | {"Smiling": 0}}


def sweep(client: TestClient, accept: str = "*/*", **params: Any) -> httpx.Response:
    return client.post("/v1/sweep", json={"attribute": "Smiling"} | params, headers={"Accept": accept})


def of_photo(client: TestClient, data: bytes, accept: str = "*/*", **params: Any) -> httpx.Response:
    form = {"attribute": "Smiling"} | {k: v if isinstance(v, str) else json.dumps(v) for k, v in params.items()}
    return client.post("/v1/sweep", files={"image": ("photo", data)}, data=form, headers={"Accept": accept})


def archived(response: httpx.Response) -> dict[str, np.ndarray]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        return {name: pixels(archive.read(name)) for name in archive.namelist()}


def test_frames_go_from_the_face_as_it_is_to_the_target(client: TestClient):
    found = archived(sweep(client, layout="frames", steps=5, size=32, **LATENT))
    assert list(found) == ["00.png", "01.png", "02.png", "03.png", "04.png"]
    assert [frame[0, 0, 0] for frame in found.values()] == [133, 158, 183, 208, 233]
    assert {frame.shape for frame in found.values()} == {(32, 32, 3)}


def test_start_stop_and_target_say_which_way(client: TestClient):
    params = {"layout": "frames", "steps": 3, "start": -0.5, "stop": 1, "target": -1}
    assert [frame[0, 0, 0] for frame in archived(sweep(client, **params, **LATENT)).values()] == [183, 108, 33]


def test_json_tells_what_each_frame_shows(client: TestClient):
    body = sweep(client, "application/json", layout="frames", steps=3, format="webp", **LATENT).json()
    assert [image["attributes"]["Smiling"] for image in body["images"]] == [0, 0.5, 1]
    assert {image["media_type"] for image in body["images"]} == {"image/webp"}
    assert pixels(base64.b64decode(body["images"][2]["data"]))[0, 0, 0] == pytest.approx(233, abs=2)


def test_a_strip_shows_all_steps_side_by_side_under_labels(client: TestClient):
    response = sweep(client, steps=3, size=64, **LATENT)
    assert response.headers["content-type"] == "image/png"
    strip = pixels(response.content)[-64:, -192:]
    assert [strip[32, x, 0] for x in (32, 96, 160)] == [133, 183, 233]


def test_two_attributes_make_a_grid(client: TestClient):
    body = sweep(
        client, "application/json", attribute=["Smiling", "Male"], layout="frames", steps=2, size=64, **LATENT
    ).json()
    shown = [(image["attributes"]["Smiling"], image["attributes"]["Male"]) for image in body["images"]]
    assert shown == [(0, -1), (1, -1), (0, 1), (1, 1)]
    grid = pixels(sweep(client, attribute=["Smiling", "Male"], steps=2, size=32, **LATENT).content)[-64:, -64:]
    assert [int(grid[y, x, 0]) for y in (16, 48) for x in (16, 48)] == [133, 233, 133, 233]


@pytest.mark.parametrize(("accept", "kind"), [("*/*", "WEBP"), ("image/gif", "GIF")])
def test_an_animation_goes_there_and_back(client: TestClient, accept: str, kind: str):
    response = sweep(client, accept, layout="animation", steps=4, size=32, milliseconds=70, **LATENT)
    with Image.open(io.BytesIO(response.content)) as film:
        assert (film.format, film.n_frames, film.size) == (kind, 6, (32, 32))


def test_a_photo_is_encoded_once_and_shown_whole(client: TestClient):
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 60, (218, 178, 3), dtype=np.uint8))
    response = of_photo(client, encoded(picture, "PNG"), layout="frames", steps=3, size=218)
    first, _, last = archived(response).values()
    assert np.array_equal(first, np.asarray(picture))  # t = 0 is the photo itself
    changed = (last != first).any(axis=2)
    assert changed[114, 89]
    assert not changed[:40].any()
    encodings = client.get("/metrics").text
    assert 'facet_batches_total{graph="encoder"} 1.0' in encodings
    assert response.headers["server-timing"].startswith("decode;")
    small = archived(of_photo(client, encoded(picture, "PNG"), layout="frames", steps=2, size=109))
    assert {frame.shape for frame in small.values()} == {(109, 89, 3)}


def test_of_a_photo_the_bare_face_can_be_had(client: TestClient):
    found = archived(of_photo(client, grey(20), layout="frames", steps=2, size=16, output="face"))
    assert [frame[0, 0, 0] for frame in found.values()] == [173, 248]


def test_a_generated_face_is_swept_by_its_seed(client: TestClient):
    params = {"seed": 7, "attributes": {"Smiling": -1}, "layout": "frames", "steps": 2, "size": 16}
    first, again = (sweep(client, **params) for _ in range(2))
    assert first.content == again.content
    assert first.headers["x-facet-seed"] == "7"
    generated = client.post(
        "/v1/generate", json={"seed": 7, "attributes": {"Smiling": -1}}, headers={"Accept": "image/png"}
    )
    assert archived(first)["00.png"][0, 0, 0] == pixels(generated.content)[0, 0, 0]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "image"),
        ({"attribute": "Smilng", **LATENT}, "attribute.Smilng"),
        ({"attribute": [], **LATENT}, "attribute"),
        ({"attribute": ["Smiling", "Male", "Eyeglasses"], **LATENT}, "attribute"),
        ({"steps": 1, **LATENT}, "steps"),
        ({"steps": 7, **LATENT}, "steps"),  # six is all this service gives
        ({"attribute": ["Smiling", "Male"], "steps": 3, **LATENT}, "steps"),
        ({"steps": 6, "size": 1024, **LATENT}, "size"),
        ({"start": 3, **LATENT}, "start"),
        ({"layout": "circle", **LATENT}, "layout"),
        ({"output": "photo", **LATENT}, "output"),
        ({"latent": [1, 2], "source_attributes": LATENT["source_attributes"]}, "latent"),
    ],
)
def test_what_cannot_be_swept_is_422_and_says_why(client: TestClient, params: dict, field: str):
    assert fields(problem(sweep(client, **({"steps": 2} | params)), 422)) == [field]


def test_a_photo_and_a_seed_contradict_each_other(client: TestClient):
    assert fields(problem(of_photo(client, grey(20), seed=3, steps=2), 422)) == ["seed"]


@pytest.mark.parametrize(
    ("layout", "accept"), [("strip", "image/gif"), ("frames", "image/png"), ("animation", "image/png")]
)
def test_each_layout_has_its_formats(client: TestClient, layout: str, accept: str):
    problem(sweep(client, accept, layout=layout, steps=2, **LATENT), 406)
