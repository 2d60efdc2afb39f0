"""POST /v1/encode: latents, attributes and the locations of faces."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from tests.service import fakes
from tests.service.api.helpers import LANDMARKS, PNG, facts, level_of, two_faces
from tests.service.fakes import ATTRIBUTES, TestClient, encoded, grey, problem


def test_encode_tells_latent_attributes_and_where_the_face_is(client: TestClient):
    body = facts(client.post("/v1/encode", files={"image": ("face.png", grey(60))}))
    assert (body["model"], body["width"], body["height"]) == ("tiny@1.2.3", 178, 218)
    (face,) = body["faces"]
    assert face == {
        "box": [15, 40, 163, 188],
        "landmarks": None,
        "score": None,
        "latent": [60, 60, 60],
        "log_variance": [0, 0, 0],
        "attributes": dict.fromkeys(ATTRIBUTES, 0.25),
    }


def test_encode_keeps_what_is_known_and_estimates_the_rest(client: TestClient):
    data = {"attributes": json.dumps({"Male": -1, "Smiling": 0.5, "Eyeglasses": None})}
    body = facts(client.post("/v1/encode", files={"image": ("face.png", grey(60))}, data=data))
    assert body["faces"][0]["attributes"] == dict.fromkeys(ATTRIBUTES, 0.25) | {"Male": -1, "Smiling": 0.5}


def test_encode_finds_every_face(seeing: TestClient):
    body = facts(seeing.post("/v1/encode", files={"image": ("pair.png", two_faces(60, 90))}))
    assert [face["latent"][0] for face in body["faces"]] == pytest.approx([90, 60], abs=1)
    assert [face["box"] for face in body["faces"]] == [[200, 0, 400, 200], [0, 0, 200, 200]]
    assert [face["score"] for face in body["faces"]] == [0.9, 0.9]
    assert np.array(body["faces"][1]["landmarks"]) == pytest.approx(
        (np.array(LANDMARKS) - [15, 40]) / 148 * 200, abs=1e-5
    )


@pytest.mark.parametrize(("face", "level"), [("0", 90), ("1", 60)])
def test_a_face_is_chosen_by_its_number(seeing: TestClient, face: str, level: int):
    files = {"image": ("pair.png", two_faces(60, 90))}
    (found,) = facts(seeing.post("/v1/encode", files=files, data={"face": face}))["faces"]
    assert found["latent"][0] == pytest.approx(level, abs=1)
    data = {"face": face, "attributes": json.dumps({"Smiling": 0}), "output": "face"}
    edited = seeing.post("/v1/edit", files=files, data=data, headers=PNG)
    assert level_of(edited) == pytest.approx(128 + level, abs=1)


def test_a_picture_that_says_it_is_framed_is_not_searched(seeing: TestClient):
    body = facts(
        seeing.post("/v1/encode?framed=true", content=grey(60, (200, 200)), headers={"Content-Type": "image/png"})
    )
    assert body["faces"][0]["box"] == [0, 0, 200, 200]
    assert body["faces"][0]["landmarks"] is None


@pytest.mark.parametrize(("face", "rule"), [("2", "must be below 2"), ("-1", "a number from 0"), ("both", "all")])
def test_a_face_that_is_not_there_is_422(seeing: TestClient, face: str, rule: str):
    response = seeing.post("/v1/encode", files={"image": ("pair.png", two_faces(60, 90))}, data={"face": face})
    error = problem(response, 422)["errors"]
    assert [entry["field"] for entry in error] == ["face"]
    assert any(rule in entry["rule"] for entry in error)


def test_encode_takes_a_raw_body_with_query_parameters(client: TestClient):
    response = client.post(
        "/v1/encode",
        content=grey(60),
        headers={"Content-Type": "image/png"},
        params={"attributes": '{"Male": 1}', "model": "tiny"},
    )
    assert facts(response)["faces"][0]["attributes"]["Male"] == 1


def test_encode_takes_a_body_of_no_declared_type(client: TestClient):
    assert facts(client.post("/v1/encode", content=grey(60)))["faces"][0]["latent"] == [60, 60, 60]


def test_a_square_picture_is_the_face_itself(client: TestClient):
    body = facts(client.post("/v1/encode", files={"image": ("face.png", grey(60, (50, 50)))}))
    assert body["faces"][0]["box"] == [0, 0, 50, 50]


@pytest.mark.parametrize("image_format", ["JPEG", "WEBP", "GIF"])
def test_pictures_of_every_format_are_read(client: TestClient, image_format: str):
    data = encoded(Image.new("RGB", fakes.ALIGNED, (90, 90, 90)), image_format)
    body = facts(client.post("/v1/encode", files={"image": ("face", data)}))
    assert body["faces"][0]["latent"][0] == pytest.approx(90, abs=2)
