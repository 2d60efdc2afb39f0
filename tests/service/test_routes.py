"""The REST interface, over a runtime whose pictures can be predicted by hand.

The fake encoder's latent is the picture's level of grey and its estimates are 0.25; the fake decoder paints the level
128 + 100 * Smiling + the first latent value.
"""

from __future__ import annotations

import base64
import gc
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image, ImageCms

from service.detector import FoundFace
from service.faces import FaceFinder
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import (
    ATTRIBUTES,
    LATENT_MEAN,
    PATIENCE,
    FailingRuntime,
    HeldRuntime,
    TestClient,
    application,
    encoded,
    fields,
    grey,
    model_of,
    pixels,
    problem,
    sample,
    serving,
)

PNG = {"Accept": "image/png"}
JSON = {"Accept": "application/json"}
MEAN_FACE = 128 + int(LATENT_MEAN[0])
LANDMARKS = [(69, 111), (108, 111), (89, 130), (73, 152), (105, 152)]  # of the tiny bundle
ALL_GIVEN = dict.fromkeys(ATTRIBUTES, -1) | {"Smiling": 0.5}


def generate(client: TestClient, headers: dict[str, str] = PNG, **asked: Any) -> httpx.Response:
    return client.post("/v1/generate", json=asked, headers=headers)


def edit(client: TestClient, level: int = 20, headers: dict[str, str] = PNG, **asked: Any) -> httpx.Response:
    """A form with a grey photo; structured parameters as JSON text."""
    asked = {"output": "face"} | asked
    data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asked.items()}
    return client.post("/v1/edit", files={"image": ("face.png", grey(level))}, data=data, headers=headers)


def level_of(response: httpx.Response) -> int:
    """The level of a picture that is one flat grey."""
    assert response.status_code == 200, response.text
    found = np.unique(pixels(response.content))
    assert len(found) == 1
    return int(found[0])


def facts(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def levels(response: httpx.Response) -> list[int]:
    """The level of each picture in a JSON response."""
    return [int(pixels(base64.b64decode(image["data"]))[0, 0, 0]) for image in facts(response)["images"]]


# Encode


def test_encode_tells_latent_attributes_and_where_the_face_is(client: TestClient):
    body = facts(client.post("/v1/encode", files={"image": ("face.png", grey(60))}))
    assert (body["model"], body["width"], body["height"]) == ("tiny@1.2.3", 178, 218)
    (face,) = body["faces"]
    assert face == {
        "box": [15, 40, 163, 188],
        "landmarks": None,
        "latent": [60, 60, 60],
        "log_variance": [0, 0, 0],
        "attributes": dict.fromkeys(ATTRIBUTES, 0.25),
    }


def test_encode_keeps_what_is_known_and_estimates_the_rest(client: TestClient):
    data = {"attributes": json.dumps({"Male": -1, "Smiling": 0.5, "Eyeglasses": None})}
    body = facts(client.post("/v1/encode", files={"image": ("face.png", grey(60))}, data=data))
    assert body["faces"][0]["attributes"] == dict.fromkeys(ATTRIBUTES, 0.25) | {"Male": -1, "Smiling": 0.5}


class Pair:
    """A detector that finds two faces: the left half of the picture, and the right."""

    def detect(self, image: Image.Image, largest: bool = False) -> list[FoundFace]:
        template = (np.array(LANDMARKS) - [15, 40]) / 148  # in the crop, as shares
        side = image.height
        return [FoundFace(0.9, (x, 0, x + side, side), template * side + [x, 0]) for x in (image.width - side, 0)]


def two_faces(left: int, right: int) -> bytes:
    picture = Image.new("RGB", (400, 200), (left,) * 3)
    picture.paste((right,) * 3, (200, 0, 400, 200))
    return encoded(picture, "PNG")


@pytest.fixture
def seeing(client: TestClient) -> TestClient:
    client.app.state.service.faces = FaceFinder(Pair())
    return client


def test_encode_finds_every_face(seeing: TestClient):
    body = facts(seeing.post("/v1/encode", files={"image": ("pair.png", two_faces(60, 90))}))
    assert [face["latent"][0] for face in body["faces"]] == pytest.approx([90, 60], abs=1)
    assert [face["box"] for face in body["faces"]] == [[200, 0, 400, 200], [0, 0, 200, 200]]
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


def test_all_faces_are_edited_at_once_where_asked(seeing: TestClient):
    data = {"face": "all", "attributes": json.dumps({"Smiling": -1}), "output": "face"}
    files = {"image": ("pair.png", two_faces(60, 90))}
    found = levels(seeing.post("/v1/edit", files=files, data=data, headers=JSON))
    assert found == pytest.approx([28 + 90, 28 + 60], abs=1)


def edit_photo(client: TestClient, data: bytes, headers: dict[str, str] = PNG, **asked: Any) -> httpx.Response:
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asked.items()}
    return client.post("/v1/edit", files={"image": ("photo", data)}, data=form, headers=headers)


def test_an_edited_photo_is_the_photo_with_another_face(client: TestClient):
    """The tiny model's faces are flat: from Smiling 0.25, its estimate, to 1 they get 75 levels brighter."""
    found = pixels(edit_photo(client, grey(20), attributes={"Smiling": 1}).content).astype(int)
    assert found.shape == (218, 178, 3)
    assert found[114, 89].tolist() == [95] * 3  # the middle of the crop
    outside = np.ones((218, 178), dtype=bool)
    outside[40:188, 15:163] = False
    assert (found[outside] == 20).all()


def test_an_edit_to_what_is_there_already_changes_no_pixel_of_the_photo(client: TestClient):
    noise = np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)
    photo = encoded(Image.fromarray(noise), "PNG")
    assert np.array_equal(pixels(edit_photo(client, photo, attributes={"Smiling": 1}, strength=0).content), noise)
    assert np.array_equal(pixels(edit_photo(client, photo, attributes={"Smiling": 0.25}).content), noise)


def test_only_the_chosen_faces_of_a_photo_change(seeing: TestClient):
    def middles(face: str) -> list[int]:
        found = edit_photo(seeing, two_faces(10, 25), attributes={"Smiling": 1}, face=face)
        return [int(level) for level in pixels(found.content)[100, [100, 300], 0]]

    assert middles("0") == pytest.approx([10, 100], abs=1)
    assert middles("1") == pytest.approx([85, 25], abs=1)
    assert middles("all") == pytest.approx([85, 100], abs=1)


@pytest.mark.parametrize(("kind", "answer"), [("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp"), ("GIF", "png")])
def test_without_a_preference_a_photo_keeps_its_format(client: TestClient, kind: str, answer: str):
    photo = encoded(Image.new("RGB", (178, 218), "olive"), kind)
    response = edit_photo(client, photo, {"Accept": "*/*"}, attributes={"Smiling": 1})
    assert response.headers["content-type"] == f"image/{answer}"
    assert pixels(response.content).shape == (218, 178, 3)
    assert edit_photo(client, photo, PNG, attributes={"Smiling": 1}).headers["content-type"] == "image/png"


def test_a_photo_keeps_its_transparency_and_its_colour_profile(client: TestClient):
    picture = Image.new("RGBA", (178, 218), (100, 100, 100, 77))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    response = edit_photo(client, encoded(picture, "PNG", icc_profile=profile), attributes={"Smiling": 1})
    found = Image.open(io.BytesIO(response.content))
    assert found.mode == "RGBA"
    assert found.getpixel((0, 0)) == (100, 100, 100, 77)
    assert found.info["icc_profile"] == profile
    flat = edit_photo(client, encoded(picture, "PNG"), {"Accept": "image/jpeg"}, attributes={"Smiling": 1})
    assert pixels(flat.content)[0, 0].tolist() == pytest.approx([208] * 3, abs=2)  # over white


def test_a_photo_is_edited_upright(client: TestClient):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    sideways = encoded(Image.new("RGB", (218, 178), "olive"), "JPEG", exif=exif)
    response = edit_photo(client, sideways, attributes={"Smiling": 1})
    assert pixels(response.content).shape == (218, 178, 3)


def test_a_photo_in_json_tells_what_it_shows_now(client: TestClient):
    body = facts(edit_photo(client, grey(100), JSON, attributes={"Smiling": 1}, format="webp"))
    (found,) = body["images"]
    assert (found["media_type"], found["width"], found["height"]) == ("image/webp", 178, 218)
    assert found["attributes"]["Smiling"] == 1
    assert pixels(base64.b64decode(found["data"])).shape == (218, 178, 3)


def test_pasting_is_a_stage_of_its_own(client: TestClient):
    assert stages(edit_photo(client, grey(100), attributes={"Smiling": 1})) == [
        "decode", "align", "queue", "infer", "paste", "encode",
    ]  # fmt: skip


def test_a_latent_has_no_photo(client: TestClient):
    body = {"latent": [5, 0, 0], "attributes": {}, "source_attributes": ALL_GIVEN, "output": "photo"}
    assert fields(problem(client.post("/v1/edit", json=body), 422)) == ["output"]


def test_a_picture_that_says_it_is_framed_is_not_searched(seeing: TestClient):
    body = facts(
        seeing.post("/v1/encode?framed=true", content=grey(60, (200, 200)), headers={"Content-Type": "image/png"})
    )
    assert body["faces"][0]["box"] == [0, 0, 200, 200]
    assert body["faces"][0]["landmarks"] is None


@pytest.mark.parametrize(("face", "rule"), [("2", "must be below 2"), ("-1", "greater than"), ("both", "all")])
def test_a_face_that_is_not_there_is_422(seeing: TestClient, face: str, rule: str):
    response = seeing.post("/v1/encode", files={"image": ("pair.png", two_faces(60, 90))}, data={"face": face})
    error = problem(response, 422)["errors"]
    assert all(entry["field"].startswith("face") for entry in error)
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


# Generate


@pytest.mark.parametrize(
    ("smiling", "level"), [(0, MEAN_FACE), (1, MEAN_FACE + 100), (-1, MEAN_FACE - 100), (0.5, 188)]
)
def test_generate_paints_the_asked_attributes(client: TestClient, smiling: float, level: int):
    assert level_of(generate(client, attributes={"Smiling": smiling}, temperature=0)) == level


def test_generate_takes_the_whole_vector(client: TestClient):
    assert level_of(generate(client, attributes=[0.5, -1, -1, -1, -1], temperature=0)) == MEAN_FACE + 50


def test_generate_decodes_given_latents_in_order(client: TestClient):
    latents = [[-30, 0, 0], [0, 0, 0], [31.4, 0, 0]]
    assert levels(generate(client, JSON, attributes={"Smiling": 0}, latents=latents)) == [98, 128, 159]


def test_generate_without_anything_gives_one_face(client: TestClient):
    assert pixels(generate(client).content).shape == (8, 8, 3)


def test_several_faces_come_as_a_grid(client: TestClient):
    latents = [[0, 0, 0], [10, 0, 0], [20, 0, 0]]
    found = pixels(generate(client, attributes={"Smiling": 0}, latents=latents).content)
    assert found[::8, ::8, 0].tolist() == [[128, 138], [148, 255]]


def test_generate_says_what_it_painted(client: TestClient):
    body = facts(generate(client, JSON, attributes={"Smiling": 0.5, "Black_Hair": 1}, count=3, seed=4))
    assert body["model"] == "tiny@1.2.3"
    assert body["seed"] == 4
    assert len(body["images"]) == 3
    for image in body["images"]:
        assert (image["media_type"], image["width"], image["height"]) == ("image/png", 8, 8)
        assert set(image["attributes"]) == set(ATTRIBUTES)
        assert image["attributes"]["Smiling"] == 0.5
        assert (image["attributes"]["Black_Hair"], image["attributes"]["Blond_Hair"]) == (1, -1)
        assert abs(image["attributes"]["Male"]) == 1


def test_the_same_seed_gives_the_same_faces_however_many(client: TestClient):
    many = facts(generate(client, JSON, seed=11, count=6))["images"]
    few = facts(generate(client, JSON, seed=11, count=2))["images"]
    assert few == many[:2]
    assert generate(client, seed=11).content == base64.b64decode(many[0]["data"])


def test_another_seed_gives_other_faces(client: TestClient):
    first, second = (levels(generate(client, JSON, seed=seed, count=6)) for seed in (1, 2))
    assert first != second


def test_a_seed_that_was_chosen_for_the_client_can_be_used_again(client: TestClient):
    first = generate(client, count=4)
    again = generate(client, count=4, seed=int(first.headers["x-facet-seed"]))
    assert again.content == first.content
    assert again.headers["x-facet-seed"] == first.headers["x-facet-seed"]


def test_chosen_seeds_differ(client: TestClient):
    assert generate(client).headers["x-facet-seed"] != generate(client).headers["x-facet-seed"]


def test_a_request_larger_than_a_batch_is_answered_whole(client: TestClient):
    latents = [[10 * i, 0, 0] for i in range(6)]
    found = levels(generate(client, JSON, attributes={"Smiling": 0}, latents=latents))
    assert found == [128 + 10 * i for i in range(6)]


def test_concurrent_requests_get_their_own_faces(client: TestClient):
    def ask(shift: int) -> list[int]:
        latents = [[shift + i, 0, 0] for i in range(3)]
        return levels(generate(client, JSON, attributes={"Smiling": 0}, latents=latents))

    with ThreadPoolExecutor(2) as pool:
        for shift, found in zip(range(0, 60, 10), pool.map(ask, range(0, 60, 10)), strict=True):
            assert found == [128 + shift + i for i in range(3)]


# Edit


@pytest.mark.parametrize(("strength", "level"), [(0, 173), (0.5, 148 + 37.5), (1, 198), (1.5, 148 + 62.5), (2, 223)])
def test_an_edit_goes_as_far_as_strength_says(client: TestClient, strength: float, level: float):
    assert level_of(edit(client, attributes={"Smiling": 0.5}, strength=strength)) in (int(level), round(level))


def test_an_edit_goes_all_the_way_by_default(client: TestClient):
    assert level_of(edit(client, attributes={"Smiling": -1})) == 128 - 100 + 20


def test_attributes_that_are_not_named_stay_as_estimated(client: TestClient):
    assert level_of(edit(client, attributes={"Eyeglasses": 1})) == 128 + 25 + 20
    body = facts(edit(client, headers=JSON, attributes={"Eyeglasses": 1}))
    assert body["images"][0]["attributes"] == dict.fromkeys(ATTRIBUTES, 0.25) | {"Eyeglasses": 1}


def test_source_attributes_replace_the_estimate(client: TestClient):
    source = {"Smiling": -0.5}
    assert level_of(edit(client, attributes={"Male": 1}, source_attributes=source)) == 128 - 50 + 20
    assert level_of(edit(client, attributes={"Smiling": 0.5}, source_attributes=source, strength=0.5)) == 128 + 20


def test_setting_a_hair_colour_clears_the_other(client: TestClient):
    body = facts(edit(client, headers=JSON, attributes={"Black_Hair": 1}))
    assert body["images"][0]["attributes"]["Black_Hair"] == 1
    assert body["images"][0]["attributes"]["Blond_Hair"] == -1


def test_edit_takes_a_raw_body_with_query_parameters(client: TestClient):
    response = client.post(
        "/v1/edit",
        content=grey(20),
        headers={"Content-Type": "image/png", **PNG},
        params={"attributes": '{"Smiling": 0.5}', "strength": "2", "output": "face"},
    )
    assert level_of(response) == 223


def test_edit_takes_a_latent_instead_of_a_picture(client: TestClient):
    body = {"latent": [5, 0, 0], "attributes": {"Smiling": 1}, "source_attributes": ALL_GIVEN, "strength": 0.5}
    assert level_of(client.post("/v1/edit", json=body, headers=PNG)) == 128 + 75 + 5


def test_what_encode_gives_edit_takes(client: TestClient):
    face = facts(client.post("/v1/encode", files={"image": ("face.png", grey(33))}))["faces"][0]
    body = {"latent": face["latent"], "attributes": {"Smiling": 1}, "source_attributes": face["attributes"]}
    assert (
        client.post("/v1/edit", json=body, headers=PNG).content == edit(client, 33, attributes={"Smiling": 1}).content
    )


def test_the_same_edit_gives_the_same_bytes(client: TestClient):
    first, second = (edit(client, attributes={"Smiling": 0.5}) for _ in range(2))
    assert first.content == second.content


# Representations


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_accept_chooses_the_format(client: TestClient, kind: str):
    response = generate(client, {"Accept": f"image/{kind}"}, attributes={"Smiling": 0}, temperature=0)
    assert response.headers["content-type"] == f"image/{kind}"
    assert abs(pixels(response.content).astype(int) - MEAN_FACE).max() <= 2


@pytest.mark.parametrize("accept", ["*/*", "image/*", "image/png;q=0.1"])
def test_without_a_preference_pictures_are_png(client: TestClient, accept: str):
    assert generate(client, {"Accept": accept}).headers["content-type"] == "image/png"


def test_json_holds_the_same_picture_as_the_bytes(client: TestClient):
    asked = {"attributes": {"Smiling": 0.5}, "seed": 3}
    data = base64.b64decode(facts(generate(client, JSON, **asked))["images"][0]["data"], validate=True)
    assert data == generate(client, PNG, **asked).content


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_pictures_in_json_have_the_asked_format(client: TestClient, kind: str):
    (image,) = facts(generate(client, JSON, format=kind, quality=30))["images"]
    assert image["media_type"] == f"image/{kind}"
    assert pixels(base64.b64decode(image["data"])).shape == (8, 8, 3)


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/edit"])
def test_an_accept_that_cannot_be_met_is_406(client: TestClient, path: str):
    files = {"image": ("face.png", grey(20))} if path == "/v1/edit" else None
    content = {} if files else {"json": {}}
    response = client.post(path, files=files, headers={"Accept": "text/html"}, **content)
    assert fields(problem(response, 406)) == ["Accept"]


# Headers


def test_every_answer_has_a_request_id(client: TestClient):
    assert generate(client).headers["x-request-id"]
    assert generate(client, {"X-Request-ID": "mine-1"}).headers["x-request-id"] == "mine-1"
    assert client.get("/nowhere", headers={"X-Request-ID": "mine-2"}).headers["x-request-id"] == "mine-2"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/v1/models", "/openapi.json"])
def test_answers_to_get_have_a_request_id_too(client: TestClient, path: str):
    assert client.get(path).headers["x-request-id"]


def test_answers_say_which_model_made_them(client: TestClient):
    assert generate(client).headers["x-facet-model"] == "tiny@1.2.3"
    assert edit(client, attributes={}).headers["x-facet-model"] == "tiny@1.2.3"
    assert client.post("/v1/encode", content=grey(1)).headers["x-facet-model"] == "tiny@1.2.3"


def test_only_seeded_answers_have_a_seed(client: TestClient):
    assert generate(client, seed=5).headers["x-facet-seed"] == "5"
    assert "x-facet-seed" not in edit(client, attributes={}).headers


def stages(response: httpx.Response) -> list[str]:
    return [part.partition(";dur=")[0] for part in response.headers["server-timing"].split(", ")]


def test_server_timing_names_each_stage_once(client: TestClient):
    assert stages(generate(client)) == ["queue", "infer", "encode"]
    assert stages(edit(client, attributes={})) == ["decode", "align", "queue", "infer", "encode"]
    assert stages(client.post("/v1/encode", content=grey(1))) == ["decode", "align", "queue", "infer"]


# Models, health and documents


def test_models_describe_themselves(client: TestClient):
    (model,) = facts(client.get("/v1/models"))["models"]
    assert model == facts(client.get("/v1/models/tiny"))
    assert model["name"] == "tiny"
    assert model["version"] == "1.2.3"
    assert model["default"] is True
    assert model["device"] == "fake"
    assert (model["image_size"], model["aligned_size"], model["latent_size"]) == (8, [178, 218], 3)
    assert model["weights_licence"] == "CC0-1.0"
    assert model["evaluation"] == {"psnr": 20.5}
    assert [attribute["name"] for attribute in model["attributes"]] == list(ATTRIBUTES)
    assert model["attributes"][2] == {
        "name": "Black_Hair",
        "description": "shows Black_Hair",
        "group": "hair",
        "sensitive": False,
        "enabled": True,
        "experimental": {},
    }
    assert model["editor_size"] is None


def test_a_request_may_name_its_model(settings: Settings):
    fakes.write_bundle(settings.bundles / "other")
    with serving(settings) as client:
        assert generate(client, model="other").headers["x-facet-model"] == "other@1.2.3"
        assert generate(client).headers["x-facet-model"] == "tiny@1.2.3"
        assert [(m["name"], m["default"]) for m in client.get("/v1/models").json()["models"]] == [
            ("other", False),
            ("tiny", True),
        ]


def test_a_measure_that_is_not_a_number_does_not_hide_the_models(settings: Settings):
    fakes.rewrite_manifest(settings.bundles / "tiny", lambda m: m.update(evaluation={"auc": float("nan")}))
    with serving(settings) as client:
        assert client.get("/v1/models").status_code == 200


def test_a_healthy_service_says_so(client: TestClient):
    assert facts(client.get("/healthz")) == {"status": "ok"}
    assert facts(client.get("/readyz")) == {"status": "ok"}


def test_before_the_models_are_loaded_it_lives_and_is_not_ready(settings: Settings):
    client = TestClient(application(settings))
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503
    for response in (generate(client), edit(client, attributes={}), client.post("/v1/encode", content=grey(1))):
        assert problem(response, 503)["detail"]
        assert int(response.headers["retry-after"]) >= 1


def test_after_shutdown_it_is_not_ready(settings: Settings):
    with serving(settings) as client:
        assert client.get("/readyz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_a_refused_bundle_stops_the_start(settings: Settings):
    (settings.bundles / "tiny" / "encoder.onnx").write_bytes(b"not really an ENCODER")
    with pytest.raises(ValueError, match=r"encoder\.onnx"), serving(settings):
        pass


def test_when_a_worker_dies_health_and_readiness_go_red(settings: Settings):
    with serving(settings, FailingRuntime) as client:
        model_of(client).runtime.error = BrokenThreadPool("out of threads")
        problem(generate(client), 503)
        health = client.get("/healthz")
        assert health.status_code == 503
        assert "tiny@1.2.3" in health.json()["status"]
        assert client.get("/readyz").status_code == 503
        problem(generate(client), 503)


def test_a_model_whose_worker_died_is_not_ready_in_the_metrics(settings: Settings):
    with serving(settings, FailingRuntime) as client:
        assert sample(client, "facet_model_ready", model="tiny") == 1
        model_of(client).runtime.error = BrokenThreadPool("out of threads")
        generate(client)
        client.get("/healthz")
        assert sample(client, "facet_model_ready", model="tiny") == 0


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    return facts(client.get("/openapi.json"))


WORK = ("/v1/encode", "/v1/generate", "/v1/edit")


def test_the_openapi_document_has_every_call(document: dict[str, Any]):
    assert set(document["paths"]) >= {*WORK, "/v1/models", "/v1/models/{name}", "/healthz", "/readyz", "/metrics"}


@pytest.mark.parametrize("path", WORK)
def test_every_operation_documents_the_problems_it_answers_with(document: dict[str, Any], path: str):
    responses = document["paths"][path]["post"]["responses"]
    assert set(responses) >= {"200", "400", "404", "413", "415", "422", "429", "500", "503", "504"}


def test_problems_are_documented_with_their_media_type_and_schema(document: dict[str, Any]):
    wrong = [
        (path, status, list(response["content"]))
        for path, operations in document["paths"].items()
        if path.startswith("/v1/")
        for operation in operations.values()
        for status, response in operation["responses"].items()
        if status[0] in "45"
        and response["content"]
        != {"application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemResponse"}}}
    ]
    assert wrong == []


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/edit"])
def test_uploads_are_documented_as_form_and_as_bytes(document: dict[str, Any], path: str):
    content = document["paths"][path]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "image/png", "image/jpeg"} <= set(content)
    form = content["multipart/form-data"]["schema"]["properties"]
    assert form["image"]["format"] == "binary"
    assert "attributes" in form


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/edit"])
def test_pictures_are_documented_in_every_format(document: dict[str, Any], path: str):
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    assert set(content) == {"image/png", "image/jpeg", "image/webp", "application/json"}


def test_every_reference_of_the_openapi_document_leads_somewhere(document: dict[str, Any]):
    text = json.dumps(document)
    for part in text.split('"#/components/schemas/')[1:]:
        assert part.partition('"')[0] in document["components"]["schemas"]


# Metrics


def test_metrics_are_exposed_in_prometheus_text(client: TestClient):
    edit(client, attributes={})
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    for name in (
        "facet_requests_total",
        "facet_requests_rejected_total",
        "facet_images_total",
        "facet_batches_total",
        "facet_batch_padding_images_total",
        "facet_inference_errors_total",
        "facet_request_duration_seconds",
        "facet_stage_duration_seconds",
        "facet_queue_wait_seconds",
        "facet_batch_images",
        "facet_batch_duration_seconds",
        "facet_requests_in_flight",
        "facet_queue_images",
        "facet_queue_capacity_images",
        "facet_model_ready",
        "facet_build_info",
        "facet_model_info",
    ):
        assert f"# TYPE {name} " in response.text


def test_metrics_are_exposed_as_openmetrics_when_asked(client: TestClient):
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


def test_requests_are_counted_by_endpoint_and_code(client: TestClient):
    generate(client)
    generate(client, count=0)
    client.get("/v1/models/tiny")
    client.get("/v1/models/missing")
    for endpoint, code in [
        ("/v1/generate", "200"),
        ("/v1/generate", "422"),
        ("/v1/models/{name}", "200"),
        ("/v1/models/{name}", "404"),
    ]:
        assert sample(client, "facet_requests_total", endpoint=endpoint, code=code) == 1
    assert sample(client, "facet_request_duration_seconds_count", endpoint="/v1/generate") == 2
    assert sample(client, "facet_requests_in_flight") == 0


def test_paths_that_clients_invent_share_one_label(client: TestClient):
    for path in ("/a", "/b/c", "/v1/nothing", "/v2/generate", "/.env"):
        client.get(path)
    assert sample(client, "facet_requests_total", endpoint="other", code="404") == 5
    for family in client.app.state.service.metrics.registry.collect():
        for entry in family.samples:
            assert entry.labels.get("endpoint", "other") in {"other", *client.app.openapi()["paths"]}


def test_images_and_batches_are_counted(client: TestClient):
    generate(client, count=3)
    edit(client, attributes={})
    client.post("/v1/encode", content=grey(1))
    assert sample(client, "facet_images_total", operation="generate") == 3
    assert sample(client, "facet_images_total", operation="edit") == 1
    assert sample(client, "facet_images_total", operation="encode") == 1
    assert sample(client, "facet_batches_total", graph="encoder") == 2
    assert sample(client, "facet_batches_total", graph="decoder") == 2
    assert sample(client, "facet_batch_padding_images_total", graph="decoder") == 1
    assert sample(client, "facet_queue_images", graph="decoder") == 0
    assert sample(client, "facet_stage_duration_seconds_count", stage="align") == 2


# Errors


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"count": 0}, "count"),
        ({"count": 7}, "count"),
        ({"count": "many"}, "count"),
        ({"count": 1.5}, "count"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**53}, "seed"),
        ({"seed": 10**100}, "seed"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"quality": 0}, "quality"),
        ({"quality": 101}, "quality"),
        ({"format": "tiff"}, "format"),
        ({"latents": []}, "latents"),
        ({"latents": [[1, 2]]}, "latents.0"),
        ({"latents": [[0, 0, 0], [0, 0, 1e6]]}, "latents.1.2"),
        ({"latents": [[0, 0, 0]] * 7}, "latents"),
        ({"attributes": {"Smilling": 1}}, "attributes.Smilling"),
        ({"attributes": {"Smiling": 2.5}}, "attributes.Smiling"),
        ({"attributes": {"Black_Hair": 1, "Blond_Hair": 1}}, "attributes.Blond_Hair"),
        ({"attributes": [1, 2]}, "attributes"),
        ({"colour": "blue"}, "colour"),
        ({"model": 3}, "model"),
    ],
)
def test_a_bad_parameter_is_422_and_named_with_its_value(client: TestClient, asked: dict[str, Any], field: str):
    body = problem(generate(client, **asked), 422)
    assert fields(body) == [field]
    assert "value" in body["errors"][0]
    assert field in body["detail"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"attributes": {"Smiling": "yes"}}, "attributes.Smiling"),
        ({"attributes": {"Smiling": True}}, "attributes.Smiling"),
        ({"attributes": {"Smiling": [1]}}, "attributes.Smiling"),
        ({"attributes": [0, 0, 0, 0, "x"]}, "attributes.4"),
        ({"attributes": 3}, "attributes"),
        ({"attributes": None}, "attributes"),
    ],
)
def test_an_attribute_that_is_no_number_is_named_as_the_client_wrote_it(
    client: TestClient, asked: dict[str, Any], field: str
):
    assert fields(problem(generate(client, **asked), 422)) == [field]


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "1" + "0" * 400])
@pytest.mark.parametrize(
    ("template", "field"),
    [
        ('{"attributes": {"Smiling": %s}}', "attributes.Smiling"),
        ('{"temperature": %s}', "temperature"),
        ('{"latents": [[0, 0, %s]]}', "latents.0.2"),
    ],
)
def test_numbers_beyond_all_numbers_are_422(client: TestClient, template: str, field: str, text: str):
    response = client.post("/v1/generate", content=template % text, headers={"Content-Type": "application/json"})
    assert fields(problem(response, 422)) == [field]


def test_an_unknown_attribute_suggests_the_closest(client: TestClient):
    body = problem(generate(client, attributes={"smilin": 1}), 422)
    assert body["errors"][0]["value"] == "smilin"
    assert body["errors"][0]["suggestions"][0] == "Smiling"
    assert "Smiling" in body["detail"]


@pytest.mark.parametrize("name", ["\ud800", "\0", "x" * 100_000, "Smiling\n", "<b>", "é"])
def test_strange_names_are_422(client: TestClient, name: str):
    content = json.dumps({"attributes": {name: 1}})
    response = client.post("/v1/generate", content=content, headers={"Content-Type": "application/json"})
    problem(response, 422)
    assert len(response.content) < 3000


@pytest.mark.parametrize("content", ["", "{", "{'a': 1}", "\\", '{"attributes":' + "[" * 50_000])
def test_a_body_that_is_no_json_is_400(client: TestClient, content: str):
    response = client.post("/v1/generate", content=content, headers={"Content-Type": "application/json"})
    problem(response, 400)


@pytest.mark.parametrize("value", [[], 1, "text", True])
def test_a_body_that_is_no_object_is_422(client: TestClient, value: Any):
    problem(client.post("/v1/generate", json=value), 422)
    problem(client.post("/v1/edit", json=value), 422)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "attributes"),
        ({"attributes": "{"}, "attributes"),
        ({"attributes": {"Smilling": 1}}, "attributes.Smilling"),
        ({"attributes": {}, "source_attributes": {"Smiling": 3}}, "source_attributes.Smiling"),
        ({"attributes": {}, "strength": 2.01}, "strength"),
        ({"attributes": {}, "strength": -1}, "strength"),
        ({"attributes": {}, "strength": "nan"}, "strength"),
        ({"attributes": {}, "strength": "very"}, "strength"),
        ({"attributes": {}, "output": "mask"}, "output"),
        ({"attributes": {}, "latent": [0, 0, 0]}, "latent"),
        ({"attributes": {}, "colour": "blue"}, "colour"),
    ],
)
def test_a_bad_parameter_of_an_edit_is_422_and_named(client: TestClient, asked: dict[str, Any], field: str):
    assert fields(problem(edit(client, **asked), 422)) == [field]


@pytest.mark.parametrize("name", ["attributes", "source_attributes", "latent"])
def test_a_parameter_nested_too_deeply_is_422(client: TestClient, name: str):
    asked = {"attributes": "{}"} | {name: "[" * 50_000}
    problem(edit(client, **asked), 422)


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/edit"])
def test_a_missing_picture_is_422(client: TestClient, path: str):
    form = {"attributes": (None, "{}"), "model": (None, "tiny")}
    assert fields(problem(client.post(path, files=form), 422)) == ["image"]
    assert fields(problem(client.post(path, json={"attributes": {}}), 422)) == ["image"]


def test_a_latent_needs_every_source_attribute(client: TestClient):
    body = {"latent": [0, 0, 0], "attributes": {"Smiling": 1}, "source_attributes": {"Smiling": 0}}
    found = problem(client.post("/v1/edit", json=body), 422)
    assert fields(found) == ["source_attributes"]
    assert "Eyeglasses" in found["errors"][0]["rule"]


def test_a_latent_of_another_length_is_422(client: TestClient):
    body = {"latent": [0, 0], "attributes": {}, "source_attributes": ALL_GIVEN}
    found = problem(client.post("/v1/edit", json=body), 422)
    assert fields(found) == ["latent"]
    assert "3 values" in found["errors"][0]["rule"]


def test_a_latent_value_out_of_range_is_named_by_its_place(client: TestClient):
    body = {"latent": [0, 0, 1e6], "attributes": {}, "source_attributes": ALL_GIVEN}
    assert fields(problem(client.post("/v1/edit", json=body), 422)) == ["latent.2"]


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/edit"])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (grey(20)[:150], 400),
        (encoded(Image.effect_noise((100, 100), 50), "JPEG")[:1000], 400),
        (b"hello, this is text", 415),
        (encoded(Image.new("L", (10, 10)), "TIFF"), 415),
        (grey(20, (600, 400)), 413),
        (grey(20, (300, 100)), 422),
    ],
    ids=["empty", "truncated png", "truncated jpeg", "text", "tiff", "too many pixels", "not a framed face"],
)
def test_a_bad_picture_has_the_status_of_its_fault(client: TestClient, path: str, data: bytes, status: int):
    response = client.post(path, files={"image": ("face.png", data)}, data={"attributes": "{}"})
    assert fields(problem(response, status)) == ["image"]


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/edit"])
def test_a_content_type_that_carries_no_picture_is_415(client: TestClient, path: str):
    response = client.post(path, content=b"hello", headers={"Content-Type": "text/plain"})
    assert fields(problem(response, 415)) == ["Content-Type"]


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/edit"])
@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"this is no form"),
        ("multipart/form-data; boundary=x", b"--x\r\nBad Header Here\r\n\r\nhi\r\n--x--\r\n"),
        ("multipart/form-data; boundary=" + "y" * 5000, b"--y"),
    ],
)
def test_a_malformed_form_is_the_clients_fault(client: TestClient, path: str, content_type: str, content: bytes):
    response = client.post(path, content=content, headers={"Content-Type": content_type})
    problem(response, response.status_code)
    assert 400 <= response.status_code < 500


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Starlette leaves half a file open
def test_a_form_that_breaks_off_is_the_clients_fault(client: TestClient):
    content = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nhalf of a pict'
    response = client.post("/v1/encode", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"})
    problem(response, response.status_code)
    assert 400 <= response.status_code < 500
    gc.collect()


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
def test_generate_takes_nothing_but_json(client: TestClient, content_type: str):
    response = client.post("/v1/generate", content=b'{"count": 1}', headers={"Content-Type": content_type})
    problem(response, response.status_code)
    assert response.status_code in (415, 422)


def test_an_unknown_model_is_404_everywhere(client: TestClient):
    responses = [
        generate(client, model="nobody"),
        edit(client, model="nobody", attributes={}),
        client.post("/v1/encode", content=grey(1), params={"model": "nobody"}),
        client.get("/v1/models/nobody"),
    ]
    for response in responses:
        body = problem(response, 404)
        assert fields(body) == ["model"]
        assert "tiny" in body["detail"]


def test_an_unknown_path_is_404(client: TestClient):
    problem(client.get("/v1/nothing"), 404)
    problem(client.post("/"), 405)


@pytest.mark.parametrize("path", WORK)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_405_and_says_which_is_allowed(client: TestClient, path: str, method: str):
    response = client.request(method, path)
    problem(response, 405)
    assert response.headers["allow"] == "POST"


def chunks():
    for _ in range(5):
        yield b"{" + b" " * 50_000


BODIES = {
    "/v1/generate": "application/json",
    "/v1/encode": "image/png",
    "/v1/edit": "multipart/form-data; boundary=x",
}


@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_announces_too_much_is_413(client: TestClient, path: str):
    response = client.post(path, content=b"{" + b" " * 200_000, headers={"Content-Type": BODIES[path]})
    assert fields(problem(response, 413)) == ["body"]
    assert sample(client, "facet_requests_rejected_total", reason="body_too_large") == 1


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/encode"])
def test_a_chunked_body_that_grows_too_large_is_413(client: TestClient, path: str):
    response = client.post(path, content=chunks(), headers={"Content-Type": BODIES[path]})
    assert "content-length" not in response.request.headers
    assert fields(problem(response, 413)) == ["body"]


def test_a_chunked_form_that_grows_too_large_is_413(client: TestClient):
    def form():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        yield from chunks()

    response = client.post("/v1/edit", content=form(), headers={"Content-Type": BODIES["/v1/edit"]})
    assert fields(problem(response, 413)) == ["body"]


def test_more_faces_than_the_queue_ever_holds_are_413(settings: Settings):
    with serving(settings.model_copy(update={"queue_images": 2})) as client:
        problem(generate(client, count=3), 413)


def test_a_full_queue_is_429_with_retry_after(settings: Settings):
    limits = {"queue_images": 2, "max_batch": 1}
    with serving(settings.model_copy(update=limits), HeldRuntime) as client, ThreadPoolExecutor(1) as pool:
        runtime = model_of(client).runtime
        runtime.hold()
        try:
            first = pool.submit(generate, client, count=2, seed=1)  # one runs, one waits
            assert runtime.entered.wait(PATIENCE)
            refused = generate(client, count=2, seed=1)
            healthy = client.get("/healthz")
        finally:
            runtime.release()
        body = problem(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["retry-after"] in body["detail"]
        assert sample(client, "facet_requests_rejected_total", reason="queue_full") == 1
        assert healthy.status_code == 200
        assert first.result(PATIENCE).status_code == 200
        assert generate(client, count=2, seed=1).content == first.result().content


def test_a_queue_without_any_room_refuses_before_the_body_is_looked_at(settings: Settings):
    limits = {"queue_images": 1, "max_batch": 1}
    with serving(settings.model_copy(update=limits), HeldRuntime) as client, ThreadPoolExecutor(2) as pool:
        model = model_of(client)
        model.runtime.hold()
        try:
            running = pool.submit(generate, client, seed=1)
            assert model.runtime.entered.wait(PATIENCE)
            waiting = pool.submit(generate, client, seed=2)
            deadline = time.monotonic() + PATIENCE
            while model.decoder.refusal() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            refused = client.post("/v1/generate", content=b"{", headers={"X-Request-ID": "mine"})
            encoded = client.post("/v1/encode", files={"image": ("face.png", grey(60))})
        finally:
            model.runtime.release()
        body = problem(refused, 429)
        assert body["request_id"] == refused.headers["x-request-id"] == "mine"
        assert int(refused.headers["retry-after"]) >= 1
        assert sample(client, "facet_requests_rejected_total", reason="queue_full") == 1
        assert sample(client, "facet_requests_total", endpoint="/v1/generate", code="429") == 1
        assert encoded.status_code == 200  # the other graph has room
        assert [job.result(PATIENCE).status_code for job in (running, waiting)] == [200, 200]
        assert client.post("/v1/generate", content=b"{").status_code != 429


def test_a_deadline_that_passes_is_504(settings: Settings):
    limits = {"request_timeout": 0.02, "max_batch": 1}
    with serving(settings.model_copy(update=limits), HeldRuntime) as client:
        runtime = model_of(client).runtime
        runtime.hold()
        try:
            problem(generate(client, count=4), 504)
        finally:
            runtime.release()
        assert sample(client, "facet_queue_images", graph="decoder") == 0


@pytest.mark.parametrize("graph", ["encoder", "decoder"])
def test_requests_on_their_way_to_a_graph_fill_it(client: TestClient, graph: str, monkeypatch: pytest.MonkeyPatch):
    at_work = model_of(client).at_work
    upload = {"image": ("face.png", grey(60))}
    most = model_of(client).batcher(graph).most_images
    monkeypatch.setitem(at_work, graph, most - 1)
    generated, encoded = generate(client), client.post("/v1/encode", files=upload)
    assert (generated.status_code, encoded.status_code) == (200, 200)
    assert at_work[graph] == most - 1  # what they took they gave back
    monkeypatch.setitem(at_work, graph, most)
    answers = {"decoder": generate(client), "encoder": client.post("/v1/encode", files=upload)}
    refused = answers.pop(graph)
    assert int(refused.headers["retry-after"]) >= 1
    problem(refused, 429)
    assert [answer.status_code for answer in answers.values()] == [200]
    assert sample(client, "facet_requests_rejected_total", reason="queue_full") == 1


def test_a_request_takes_as_many_places_as_it_will_draw_images(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    model, upload = model_of(client), {"image": ("face.png", grey(60))}
    monkeypatch.setitem(model.at_work, "decoder", model.decoder.most_images - 1)
    asked = {"attributes": '{"Smiling": 1}'}
    assert client.post("/v1/edit", files=upload, data=asked | {"output": "face"}).status_code == 200
    problem(client.post("/v1/edit", files=upload, data=asked), 429)  # it draws the face before and after
    problem(generate(client, count=2), 429)
    problem(client.post("/v1/sweep", json={"seed": 1, "attribute": "Smiling", "steps": 2}), 429)
    monkeypatch.setitem(model.at_work, "decoder", 0)
    assert client.post("/v1/edit", files=upload, data=asked).status_code == 200
    assert model.at_work["decoder"] == 0


def test_a_full_model_leaves_the_others_their_room(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    fakes.write_bundle(settings.bundles / "other")
    with serving(settings) as client:
        model = model_of(client)
        monkeypatch.setitem(model.at_work, "decoder", model.decoder.most_images)
        problem(generate(client), 429)
        assert generate(client, model="other").status_code == 200


def test_requests_that_fail_give_their_place_back(client: TestClient):
    problem(client.post("/v1/generate", json={"attributes": {"Smilng": 1}}), 422)
    problem(client.post("/v1/edit", content=b"\xff\xd8\xff", params={"attributes": "{}"}), 400)
    assert set(model_of(client).at_work.values()) <= {0}


def test_a_failing_model_is_500_and_keeps_its_secrets(settings: Settings):
    with serving(settings, FailingRuntime) as client:
        model_of(client).runtime.error = ValueError("swordfish")
        response = generate(client)
        problem(response, 500)
        assert "swordfish" not in response.text
        assert sample(client, "facet_inference_errors_total", kind="ValueError") == 1
        model_of(client).runtime.error = None
        assert generate(client).status_code == 200
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/generate"])
def test_an_unexpected_error_is_500_and_keeps_its_secrets(client: TestClient, monkeypatch, path: str):
    def fail(*_: Any) -> None:
        raise RuntimeError("swordfish")

    monkeypatch.setattr(client.app.state.service.models, "all", fail)
    monkeypatch.setattr(client.app.state.service.models, "get", fail)
    response = client.get(path) if path == "/v1/models" else generate(client)
    monkeypatch.undo()
    problem(response, 500)
    assert "swordfish" not in response.text
    assert "RuntimeError" not in response.text
    assert sample(client, "facet_requests_total", endpoint=path, code="500") == 1


def test_errors_have_the_timings_and_the_model_they_got_as_far_as(client: TestClient):
    response = client.post("/v1/encode", content=grey(20, (300, 100)))
    problem(response, 422)
    assert stages(response) == ["decode", "align"]
    assert response.headers["x-facet-model"] == "tiny@1.2.3"
