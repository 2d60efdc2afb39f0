"""Edits of photographs by a model that has an editor, over HTTP.

The fake editor works within the middle third of its frame of 12 pixels: it adds a quarter of the change of Smiling,
multiplies by 1 + half the change of Eyeglasses, and moves pixels by a tenth of the frame for Black_Hair. The encoder
estimates everything as 0.25, so adding Smiling is a change of 0.75 and adds 48 levels.
"""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.faces import FaceFinder
from service.runtime import Arrays, FakeRuntime
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import ATTRIBUTES, EDITOR_SIZE, TestClient, encoded, grey, model_of, pixels, problem
from tests.service.test_routes import Pair, facts, stages, two_faces

PNG, JSON = {"Accept": "image/png"}, {"Accept": "application/json"}
ALL_KNOWN = dict.fromkeys(ATTRIBUTES, -1.0)
CENTRE = (109, 89)  # of the editor's box, as row and column of the aligned picture
ADDED = 48  # round(255 * 0.25 * 0.75)


class Recording(FakeRuntime):
    """Remembers what the editor was given since the model was loaded."""

    def __init__(self, manifest) -> None:
        super().__init__(manifest)
        self.seen: list[Arrays] = []

    def editor(self, inputs: Arrays) -> Arrays:
        self.seen.append(inputs)
        return super().editor(inputs)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    fakes.write_bundle(tmp_path / "edited" / "tiny", schema=2, editor=True)
    return Settings(
        bundles=tmp_path / "edited",
        weights=tmp_path / "none",
        default_model="tiny",
        max_batch=4,
        queue_images=16,
        max_count=9,
        codec_threads=2,
        sensitive_attributes=True,
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with fakes.serving(settings, Recording) as client:
        model_of(client).runtime.seen.clear()
        yield client


def edit(client: TestClient, picture: bytes, headers: dict[str, str] = PNG, **asked: Any) -> httpx.Response:
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in asked.items()}
    return client.post("/v1/edit", files={"image": ("photo", picture)}, data=form, headers=headers)


def sweep(client: TestClient, picture: bytes, headers: dict[str, str] | None = None, **asked: Any) -> httpx.Response:
    form = {"attribute": "Smiling"} | {k: v if isinstance(v, str) else json.dumps(v) for k, v in asked.items()}
    return client.post("/v1/sweep", files={"image": ("photo", picture)}, data=form, headers=headers or {})


def frames(response: httpx.Response) -> list[np.ndarray]:
    assert response.status_code == 200, response.text
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        return [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]


def batches(client: TestClient) -> dict[str, int]:
    names = ("encoder", "decoder", "editor")
    return {name: int(fakes.sample(client, "facet_batches_total", graph=name)) for name in names}


def noise(size: tuple[int, int] = fakes.ALIGNED) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 200, (size[1], size[0], 3), dtype=np.uint8)


# ---- one edit


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
    asked = {"attributes": {"Eyeglasses": 1}, "strength": 0.5}
    found = pixels(edit(client, encoded(Image.fromarray(taken), "PNG"), **asked).content)
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


@pytest.mark.parametrize("asked", [{"attributes": {"Smiling": 1}, "strength": 0}, {"attributes": {"Smiling": 0.25}}])
def test_an_edit_that_changes_nothing_gives_the_same_pixels_and_takes_no_editor(client: TestClient, asked: dict):
    taken = noise()
    assert np.array_equal(pixels(edit(client, encoded(Image.fromarray(taken), "PNG"), **asked).content), taken)
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


# ---- what is known already


def test_with_every_attribute_known_the_encoder_does_not_run(client: TestClient):
    found = pixels(edit(client, grey(100), attributes={"Smiling": 1}, source_attributes=ALL_KNOWN).content)
    assert found[CENTRE].tolist() == [100 + 64] * 3  # from -1, a change of 1
    assert batches(client) == {"encoder": 0, "decoder": 0, "editor": 1}


def test_with_some_known_it_estimates_the_rest(client: TestClient):
    edit(client, grey(100), attributes={"Smiling": 1}, source_attributes={"Smiling": 0})
    assert model_of(client).runtime.seen[0]["change"].tolist() == [[1, 0, 0, 0, 0]]
    assert batches(client) == {"encoder": 1, "decoder": 0, "editor": 1}


def test_what_is_withheld_need_not_be_known(settings: Settings):
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
        asked = 0

        def detect(self, image, largest=False):
            self.asked += 1
            return super().detect(image, largest)

    detector = Once()
    client.app.state.service.faces = FaceFinder(detector)
    picture = two_faces(10, 25)
    client.post("/v1/encode", files={"image": ("pair", picture)})
    edit(client, picture, attributes={"Smiling": 1}, source_attributes=ALL_KNOWN)
    assert detector.asked == 1
    assert batches(client) == {"encoder": 1, "decoder": 0, "editor": 1}


# ---- where the editor looks


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


# ---- sweeps


def test_a_sweep_frames_the_face_once_and_runs_the_editor_for_each_step(client: TestClient):
    found = frames(sweep(client, encoded(Image.fromarray(noise()), "PNG"), layout="frames", steps=4, size=218))
    assert np.array_equal(found[0], noise())  # t = 0 is the photograph itself
    levels = [int(frame[CENTRE][0]) - int(noise()[CENTRE][0]) for frame in found]
    assert levels == pytest.approx([0, 16, 32, 48], abs=1)
    assert batches(client) == {"encoder": 1, "decoder": 0, "editor": 1}
    (given,) = model_of(client).runtime.seen
    assert (given["image"][0] == given["image"][2]).all()


def test_a_grid_of_two_attributes(client: TestClient):
    asked = {"attribute": ["Smiling", "Eyeglasses"], "layout": "frames", "steps": 2, "size": 218}
    found = [int(frame[CENTRE][0]) for frame in frames(sweep(client, grey(80), **asked))]
    assert found == [80, 128, 110, 158]
    assert batches(client)["decoder"] == 0


def test_a_sweep_of_the_bare_face(client: TestClient):
    asked = {"layout": "frames", "steps": 2, "size": 24, "output": "face"}
    first, last = frames(sweep(client, grey(100), **asked))
    assert first.shape == (24, 24, 3)
    assert (int(first[12, 12, 0]), int(last[12, 12, 0])) == (100, 100 + ADDED)


def test_sweeps_without_a_photograph_stay_the_decoders(client: TestClient):
    body = {"attribute": "Smiling", "latent": [5, 0, 0], "source_attributes": ALL_KNOWN, "steps": 2, "size": 16}
    assert client.post("/v1/sweep", json=body).status_code == 200
    assert client.post("/v1/sweep", json={"attribute": "Smiling", "seed": 3, "steps": 2, "size": 16}).status_code == 200
    assert batches(client) == {"encoder": 0, "decoder": 2, "editor": 0}


# ---- the engine


def test_the_model_tells_of_its_editor(client: TestClient):
    assert facts(client.get("/v1/models/tiny"))["editor_size"] == EDITOR_SIZE


def test_the_editors_queue_holds_up_photographs_alone(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_of(client).editor, "refusal", lambda: 3.0)
    refused = edit(client, grey(100), attributes={"Smiling": 1})
    problem(refused, 429)
    assert refused.headers["retry-after"] == "3"
    problem(sweep(client, grey(100)), 429)
    body = {"latent": [5, 0, 0], "attributes": {}, "source_attributes": ALL_KNOWN}
    assert client.post("/v1/edit", json=body).status_code == 200
    assert client.post("/v1/generate", json={}).status_code == 200
    assert client.post("/v1/encode", content=grey(100)).status_code == 200


def test_the_decoders_queue_does_not_hold_up_photographs(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_of(client).decoder, "refusal", lambda: 3.0)
    assert edit(client, grey(100), attributes={"Smiling": 1}).status_code == 200
    problem(client.post("/v1/edit", json={"latent": [5, 0, 0], "attributes": {}, "source_attributes": ALL_KNOWN}), 429)


def test_a_worker_that_died_in_the_editor_shows(client: TestClient):
    model_of(client).editor.failure = RuntimeError("gone")
    assert client.get("/healthz").status_code == 503


def test_an_editor_that_edits_otherwise_than_its_export_did_is_refused(settings: Settings):
    class Other(FakeRuntime):
        def editor(self, inputs: Arrays) -> Arrays:
            outputs = super().editor(inputs)
            return outputs | {"residual": -outputs["residual"] - np.float32(0.1)}

    with (
        pytest.raises(ValueError, match=r"editor_samples\.png: the graphs edit other faces"),
        fakes.serving(settings, Other),
    ):
        pass


# ---- greys


GREYS = ["1", "L", "LA", "I;16", "RGB", "RGBA"]


def grey_picture(mode: str) -> bytes:
    """A PNG without colours."""
    levels = Image.fromarray(noise()[:, :, 0])
    if mode == "I;16":
        image = Image.fromarray(np.asarray(levels).astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        image = levels.convert(mode[:-1])
        image.putalpha(77)
    else:
        image = levels.convert(mode)
    assert image.mode == mode
    return encoded(image, "PNG")


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("mode", GREYS)
@pytest.mark.parametrize("with_editor", [True, False])
def test_a_grey_photograph_stays_grey_and_keeps_its_mode(
    settings: Settings, tmp_path: Path, mode: str, with_editor: bool
):
    class Colourful(FakeRuntime):
        """Red faces."""

        def editor(self, inputs: Arrays) -> Arrays:
            outputs = super().editor(inputs)
            return outputs | {"residual": outputs["residual"] * np.array([2, 0, -1], dtype=np.float32)}

        def decoder(self, inputs: Arrays) -> Arrays:
            drawn = super().decoder(inputs)["image"].astype(float) * np.array([1.0, 0.6, 0.4])
            return {"image": drawn.round().astype(np.uint8)}

    directory = tmp_path / f"{mode}{with_editor}".replace(";", "") / "tiny"
    manifest = fakes.write_bundle(directory, schema=2, editor=with_editor)
    fakes.draw_samples(directory, manifest, Colourful(manifest))
    with fakes.serving(settings.model_copy(update={"bundles": directory.parent}), Colourful) as client:
        before = opened(grey_picture(mode))
        after = opened(edit(client, grey_picture(mode), attributes={"Smiling": -1}).content)
        assert after.mode == {"1": "L", "I;16": "L"}.get(mode, mode)
        if "A" in mode:
            assert after.getpixel((5, 5))[-1] == 77
        found = np.asarray(after.convert("RGB"))
        assert (found == found[:, :, :1]).all()
        middle = found[100:118, 80:98, 0].astype(int)
        source = (
            np.asarray(before).astype(int) // 257 if mode == "I;16" else np.asarray(before.convert("L")).astype(int)
        )
        assert (middle != source[100:118, 80:98]).any()
        assert np.array_equal(found[:30, :, 0], source[:30])
        swept = frames(sweep(client, grey_picture(mode), layout="frames", steps=2, size=218, target=-1))
        assert all(frame.ndim == (3 if mode.startswith("RGB") else 2) for frame in swept)
        if mode.startswith("RGB"):
            assert (swept[1] == swept[1][:, :, :1]).all()


def test_a_photograph_with_one_coloured_pixel_is_none_without_colours(client: TestClient):
    picture = np.repeat(noise()[:, :, :1], 3, axis=2)
    picture[201, 33] = (9, 10, 10)
    response = edit(client, encoded(Image.fromarray(picture), "PNG"), attributes={"Smiling": 1})
    assert opened(response.content).getpixel((33, 201)) == (9, 10, 10)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_other_formats_have_greys_as_far_as_they_know_them(client: TestClient, kind: str):
    response = edit(client, grey_picture("L"), {"Accept": f"image/{kind}"}, attributes={"Smiling": 1})
    assert opened(response.content).mode == ("L" if kind == "jpeg" else "RGB")


# ---- what is experimental


REASONS = {"added": "seen on 31% of faces", "removed": "1.4 times as far from real faces as before"}


@pytest.fixture
def cautious(settings: Settings) -> Iterator[TestClient]:
    """Smiles are added at one's own risk, glasses removed, and black hair in both directions."""

    def mark(manifest: dict[str, Any]) -> None:
        marks = {"Smiling": ["added"], "Eyeglasses": ["removed"], "Black_Hair": ["added", "removed"]}
        for attribute in manifest["attributes"]:
            attribute["experimental"] = {d: REASONS[d] for d in marks.get(attribute["name"], [])}

    fakes.rewrite_manifest(settings.bundles / "tiny", mark)
    with fakes.serving(settings) as client:
        yield client


def test_models_tell_what_is_experimental(cautious: TestClient):
    told = {a["name"]: a["experimental"] for a in facts(cautious.get("/v1/models/tiny"))["attributes"]}
    assert told["Smiling"] == {"added": REASONS["added"]}
    assert told["Black_Hair"] == REASONS
    assert told["Male"] == {}


@pytest.mark.parametrize(
    ("asked", "value", "direction"),
    [({"Smiling": 1}, 1, "added"), ({"Eyeglasses": -1}, -1, "removed"), ({"Male": 1, "Black_Hair": -1}, -1, "removed")],
)
@pytest.mark.parametrize("output", ["photo", "face"])
def test_an_experimental_edit_is_refused_with_its_reason(
    cautious: TestClient, asked: dict, value: float, direction: str, output: str
):
    body = problem(edit(cautious, grey(100), attributes=asked, output=output), 422)
    (error,) = body["errors"]
    name = list(asked)[-1]
    assert (error["field"], error["value"]) == (f"attributes.{name}", value)
    verb = f"adding {name} to" if direction == "added" else f"removing {name} from"
    assert error["rule"] == f"{verb} a photograph is experimental: {REASONS[direction]}; experimental=true allows it"
    assert edit(cautious, grey(100), attributes=asked, output=output, experimental=True).status_code == 200


@pytest.mark.parametrize(
    "asked",
    [
        {"attributes": {"Smiling": -1}},
        {"attributes": {"Smiling": 0.2}},  # the face shows 0.25
        {"attributes": {"Eyeglasses": 1}},
        {"attributes": {"Blond_Hair": 1}},  # switches black hair off by itself
        {"attributes": {"Smiling": 1}, "strength": 0},
        {"attributes": {"Smiling": 1}, "source_attributes": {"Smiling": 1}},
    ],
)
def test_what_is_not_experimental_is_not_refused(cautious: TestClient, asked: dict):
    assert edit(cautious, grey(100), **asked).status_code == 200


def test_an_edit_without_a_photograph_is_nobodys_risk(cautious: TestClient):
    body = {"latent": [5, 0, 0], "attributes": {"Smiling": 1}, "source_attributes": ALL_KNOWN}
    assert cautious.post("/v1/edit", json=body).status_code == 200
    assert cautious.post("/v1/sweep", json={"attribute": "Smiling", "seed": 1, "steps": 2}).status_code == 200


def test_an_experimental_sweep_is_refused(cautious: TestClient):
    error = problem(sweep(cautious, grey(100), steps=2), 422)["errors"][0]
    assert (error["field"], error["value"]) == ("attribute", "Smiling")
    assert REASONS["added"] in error["rule"]
    assert sweep(cautious, grey(100), steps=2, experimental=True).status_code == 200
    assert sweep(cautious, grey(100), steps=2, target=-1).status_code == 200
    problem(sweep(cautious, grey(100), steps=2, target=-1, start=-0.5), 422)  # begins beyond what the face shows


def test_it_is_refused_before_the_editor_runs(cautious: TestClient):
    edit(cautious, grey(100), attributes={"Smiling": 1})
    assert batches(cautious)["editor"] == 0


def test_in_the_query_and_as_nonsense(cautious: TestClient):
    params = {"attributes": '{"Smiling": 1}', "experimental": "true"}
    assert cautious.post("/v1/edit", params=params, content=grey(100)).status_code == 200
    params["experimental"] = "perhaps"
    assert fakes.fields(problem(cautious.post("/v1/edit", params=params, content=grey(100)), 422)) == ["experimental"]


# ---- the graph itself


def test_the_editor_is_a_model_of_the_protocol(client: TestClient):
    told = client.get("/v2/models/tiny-editor").json()
    assert [each["name"] for each in told["outputs"]] == ["mask", "gain", "residual", "flow"]
    image = {"name": "image", "datatype": "UINT8", "shape": [1, EDITOR_SIZE, EDITOR_SIZE, 3]}
    change = {"name": "change", "datatype": "FP32", "shape": [1, len(ATTRIBUTES)], "data": [0.5, 0, 0, 0, 0]}
    asked = {"inputs": [image | {"data": [7] * (3 * EDITOR_SIZE**2)}, change], "outputs": [{"name": "residual"}]}
    (residual,) = client.post("/v2/models/tiny-editor/infer", json=asked).json()["outputs"]
    assert residual["shape"] == [1, EDITOR_SIZE, EDITOR_SIZE, 3]
    assert set(residual["data"]) == {0.125}
    assert fakes.sample(client, "facet_images_total", operation="edit_fields") == 1


def test_at_the_protocol_what_is_withheld_does_not_change(settings: Settings):
    with fakes.serving(settings.model_copy(update={"sensitive_attributes": False}), Recording) as client:
        seen = model_of(client).runtime.seen
        seen.clear()
        image = {"name": "image", "datatype": "UINT8", "shape": [1, EDITOR_SIZE, EDITOR_SIZE, 3]}
        change = {"name": "change", "datatype": "FP32", "shape": [1, len(ATTRIBUTES)], "data": [0.5, 0, 0, 0, 1]}
        asked = {"inputs": [image | {"data": [7] * (3 * EDITOR_SIZE**2)}, change]}
        assert client.post("/v2/models/tiny-editor/infer", json=asked).status_code == 200
        assert seen[0]["change"].tolist() == [[0.5, 0, 0, 0, 0]]
