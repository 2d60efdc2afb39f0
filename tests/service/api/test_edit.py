"""POST /v1/edit by the decoder: photographs, bare faces and latents.

The folder `editor` has models with an editor.
"""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.service.api.helpers import ALL_GIVEN, JSON, PNG, edit, edit_photo, facts, level_of, levels, stages, two_faces
from tests.service.fakes import ATTRIBUTES, TestClient, encoded, fields, grey, pixels, problem


def test_all_faces_are_edited_at_once_where_requested(seeing: TestClient):
    data = {"face": "all", "attributes": json.dumps({"Smiling": -1}), "output": "face"}
    files = {"image": ("pair.png", two_faces(60, 90))}
    found = levels(seeing.post("/v1/edit", files=files, data=data, headers=JSON))
    assert found == pytest.approx([28 + 90, 28 + 60], abs=1)


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


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_where_nothing_changes_a_format_that_is_not_written_is_a_png_of_the_same_pixels(
    client: TestClient, kind: str, mode: str
):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (218, 178, 3), dtype=np.uint8)).convert(mode)
    photo = encoded(noise, kind)
    response = edit_photo(client, photo, {"Accept": "*/*"}, attributes={"Smiling": 1}, strength=0)
    assert response.headers["content-type"] == "image/png"
    assert np.array_equal(pixels(response.content), pixels(photo))
    assert client.post("/v1/verify", files={"image": ("a.png", response.content)}).json()["synthetic"] is True


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
