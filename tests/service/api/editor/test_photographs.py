"""Edits of photographs by a model's editor."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from PIL import Image

from service.faces.finder import FaceFinder
from service.inference.onnx import Arrays
from service.settings import Settings
from tests.fake_runtime import FakeRuntime
from tests.service import fakes
from tests.service.api.editor.conftest import ADDED, ALL_KNOWN, CENTRE, Recording, batches, edit, noise
from tests.service.api.helpers import JSON, PNG, Pair, facts, stages, two_faces
from tests.service.fakes import ATTRIBUTES, EDITOR_SIZE, TestClient, encoded, grey, model_of, pixels, problem


def test_an_edit_is_one_encoder_run_and_one_editor_run(client: TestClient):
    response = edit(client, grey(100), attributes={"Smiling": 1})
    found = pixels(response.content).astype(int)
    assert found.shape == (218, 178, 3)
    assert found[CENTRE].tolist() == [100 + ADDED] * 3
    assert batches(client) == {"encoder": 1, "decoder": 0, "editor": 1}
    assert stages(response) == ["decode", "align", "queue", "infer", "paste", "encode"]


def test_only_the_mask_of_the_photograph_changes(client: TestClient):
    taken = noise()
    found = pixels(edit(client, encoded(Image.fromarray(taken), "PNG"), attributes={"Smiling": 1}).content)
    changed = (found != taken).any(axis=2)
    rows, columns = np.nonzero(changed)
    third, soft = 178 / 3, 178 / EDITOR_SIZE  # interpolation makes the mask's edge two of its pixels wide
    assert changed[CENTRE]
    assert abs(rows - 109).max() <= third / 2 + 2 * soft
    assert abs(columns - 89).max() <= third / 2 + 2 * soft


def test_gain_keeps_the_photographs_detail(client: TestClient):
    taken = noise()
    params = {"attributes": {"Eyeglasses": 1}, "strength": 0.5}
    found = pixels(edit(client, encoded(Image.fromarray(taken), "PNG"), **params).content)
    middle = np.s_[100:118, 80:98]
    expected = taken[middle] * (1 + 0.5 * 0.375)
    assert np.abs(found[middle] - expected.clip(0, 255)).max() <= 2  # cubic interpolation swings near a hard edge


def test_flow_moves_the_photographs_own_pixels(client: TestClient):
    ramp = np.broadcast_to(np.arange(178, dtype=np.uint8)[None, :, None], (218, 178, 3))
    found = pixels(edit(client, encoded(Image.fromarray(ramp), "PNG"), attributes={"Black_Hair": 1}).content)
    assert int(found[CENTRE][0]) - 89 == pytest.approx(0.1 * 0.75 * 178, abs=1)


def test_the_change_is_the_share_of_the_way_that_attributes_move(client: TestClient):
    edit(client, grey(100), attributes={"Smiling": 1, "Eyeglasses": -1}, strength=0.5)
    (given,) = model_of(client).runtime.seen
    assert given["change"].tolist() == [[0.375, -0.5, 0, 0, 0]]


def test_a_hair_colour_switches_the_others_off(client: TestClient):
    edit(client, grey(100), attributes={"Blond_Hair": 1})
    (given,) = model_of(client).runtime.seen
    assert given["change"].tolist() == [[0, 0, -1, 0.75, 0]]


@pytest.mark.parametrize("params", [{"attributes": {"Smiling": 1}, "strength": 0}, {"attributes": {"Smiling": 0.25}}])
def test_an_edit_that_changes_nothing_gives_the_same_pixels_and_takes_no_editor(client: TestClient, params: dict):
    taken = noise()
    assert np.array_equal(pixels(edit(client, encoded(Image.fromarray(taken), "PNG"), **params).content), taken)
    assert batches(client)["editor"] == 0


def test_json_tells_what_the_photo_shows_now(client: TestClient):
    (image,) = facts(edit(client, grey(100), JSON, attributes={"Smiling": 1}))["images"]
    assert image["attributes"] == dict.fromkeys(ATTRIBUTES, 0.25) | {"Smiling": 1}
    assert pixels(base64.b64decode(image["data"]))[CENTRE].tolist() == [100 + ADDED] * 3


def test_the_bare_face_is_the_edited_frame_and_says_that_it_is_an_edit(client: TestClient):
    body = facts(edit(client, grey(100), JSON, attributes={"Smiling": 1}, output="face"))
    (image,) = body["images"]
    assert (image["width"], image["height"]) == (EDITOR_SIZE, EDITOR_SIZE)
    assert image["digital_source_type"].endswith("compositeWithTrainedAlgorithmicMedia")
    face = pixels(base64.b64decode(image["data"]))[:, :, 0]
    inside = np.zeros((EDITOR_SIZE, EDITOR_SIZE), dtype=bool)
    inside[4:8, 4:8] = True
    assert (face[inside] == 100 + ADDED).all()
    assert (face[~inside] == 100).all()
    assert batches(client) == {"encoder": 1, "decoder": 0, "editor": 1}


def test_edits_of_a_latent_stay_the_decoders(client: TestClient):
    body = {"latent": [5, 0, 0], "attributes": {"Smiling": 1}, "source_attributes": ALL_KNOWN}
    drawn = client.post("/v1/edit", json=body, headers=PNG)
    assert pixels(drawn.content).shape == (fakes.IMAGE_SIZE, fakes.IMAGE_SIZE, 3)
    assert pixels(drawn.content)[0, 0, 0] == 233
    assert batches(client) == {"encoder": 0, "decoder": 1, "editor": 0}


def test_with_every_attribute_known_the_encoder_does_not_run(client: TestClient):
    found = pixels(edit(client, grey(100), attributes={"Smiling": 1}, source_attributes=ALL_KNOWN).content)
    assert found[CENTRE].tolist() == [100 + 64] * 3  # from -1, a change of 1
    assert batches(client) == {"encoder": 0, "decoder": 0, "editor": 1}


def test_with_some_known_it_estimates_the_rest(client: TestClient):
    edit(client, grey(100), attributes={"Smiling": 1}, source_attributes={"Smiling": 0})
    assert model_of(client).runtime.seen[0]["change"].tolist() == [[1, 0, 0, 0, 0]]
    assert batches(client) == {"encoder": 1, "decoder": 0, "editor": 1}


def test_what_is_disabled_need_not_be_known(settings: Settings):
    with fakes.serving(settings.model_copy(update={"sensitive_attributes": False}), Recording) as client:
        known = {name: value for name, value in ALL_KNOWN.items() if name != "Male"}
        assert edit(client, grey(100), attributes={"Smiling": 1}, source_attributes=known).status_code == 200
        assert batches(client) == {"encoder": 0, "decoder": 0, "editor": 1}


def test_a_photograph_that_comes_again_is_not_encoded_again(client: TestClient):
    pictures = [edit(client, grey(40), attributes={"Smiling": smile}).content for smile in (1, -1, 1)]
    assert pictures[0] == pictures[2] != pictures[1]
    assert batches(client) == {"encoder": 1, "decoder": 0, "editor": 3}


def test_what_is_remembered_says_where_the_face_is(client: TestClient):
    class Once(Pair):
        params = 0

        def detect(self, image, largest=False, reduction=1.0):
            self.params += 1
            return super().detect(image, largest)

    detector = Once()
    client.app.state.service.faces = FaceFinder(detector)
    picture = two_faces(10, 25)
    client.post("/v1/encode", files={"image": ("pair", picture)})
    edit(client, picture, attributes={"Smiling": 1}, source_attributes=ALL_KNOWN)
    assert detector.params == 1
    assert batches(client) == {"encoder": 1, "decoder": 0, "editor": 1}


def test_of_an_aligned_picture_the_editor_sees_its_own_box(client: TestClient):
    ramp = np.broadcast_to(np.arange(218, dtype=np.uint8)[:, None, None], (218, 178, 3))
    edit(client, encoded(Image.fromarray(ramp), "PNG"), attributes={"Smiling": 1})
    (view,) = model_of(client).runtime.seen[0]["image"]
    expected = 20 + 178 * (np.arange(EDITOR_SIZE) + 0.5) / EDITOR_SIZE
    assert view[:, 6, 0] == pytest.approx(expected, abs=1)


def test_a_square_picture_is_the_encoders_crop_and_its_border_goes_on(client: TestClient):
    """The editor's box is 15 to the left, 20 above and so on of a crop of 148."""
    ramp = np.broadcast_to(np.arange(148, dtype=np.uint8)[None, :, None], (148, 148, 3))
    response = edit(client, encoded(Image.fromarray(ramp), "PNG"), framed=True, attributes={"Smiling": 1})
    (view,) = model_of(client).runtime.seen[0]["image"]
    expected = (178 * (np.arange(EDITOR_SIZE) + 0.5) / EDITOR_SIZE - 15).clip(0, 147)
    assert view[6, :, 0] == pytest.approx(expected, abs=2)
    found = pixels(response.content)
    assert found.shape == (148, 148, 3)
    assert int(found[69, 74, 0]) - 74 == ADDED  # the box's middle is 5 above the crop's


def test_faces_of_a_photograph_are_edited_each_in_its_place(client: TestClient):
    client.app.state.service.faces = FaceFinder(Pair())
    picture = two_faces(10, 25)

    def middles(face: str) -> list[int]:
        found = pixels(edit(client, picture, attributes={"Smiling": 1}, face=face).content)
        return [int(level) for level in found[95, [100, 300], 0]]

    assert middles("0") == pytest.approx([10, 25 + ADDED], abs=1)
    assert middles("1") == pytest.approx([10 + ADDED, 25], abs=1)
    assert middles("all") == pytest.approx([10 + ADDED, 25 + ADDED], abs=1)
    assert model_of(client).runtime.seen[-1]["image"].shape[0] == 2  # both together


def test_a_face_that_is_not_there_is_422(client: TestClient):
    client.app.state.service.faces = FaceFinder(Pair())
    problem(edit(client, two_faces(10, 25), attributes={"Smiling": 1}, face="2"), 422)


class Reddening(FakeRuntime):
    """Its editor adds in the red channel alone."""

    def editor(self, inputs: Arrays) -> Arrays:
        outputs = super().editor(inputs)
        return outputs | {"residual": outputs["residual"] * np.float32([1, 0, 0])}


@pytest.mark.parametrize("output", ["photo", "face"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_edit_of_a_photograph_without_colours_adds_none(settings: Settings, output: str, kind: str):
    rows, columns = np.mgrid[:218, :178]
    grey = Image.fromarray((128 + 60 * np.sin(rows / 30) * np.cos(columns / 25)).astype(np.uint8)).convert("RGB")
    taken = encoded(grey, kind, quality=90)
    with fakes.serving(settings, Reddening) as client:
        found = pixels(edit(client, taken, attributes={"Smiling": 1}, output=output).content).astype(int)
        coloured = encoded(Image.fromarray(noise()), "PNG")
        reddened = pixels(edit(client, coloured, attributes={"Smiling": 1}).content).astype(int) - noise()
    assert np.ptp(found, axis=2).max() <= 2  # those of a lossy WebP differ by a level
    assert (reddened[..., 0].max() > 20) & (reddened[..., 1:] == 0).all()
