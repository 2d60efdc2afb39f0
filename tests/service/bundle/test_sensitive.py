"""Sensitive attributes that are not enabled are neither taken nor told, and everything else goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle import loader
from service.bundle.manifest import MANIFEST, BundleError, Manifest
from service.bundle.sensitive import DisabledAttributes
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import ATTRIBUTES, TestClient, fields, problem

TOLD = [name for name in ATTRIBUTES if name != "Male"]
ORDINARY = dict.fromkeys(TOLD, -1.0)
LATENT = {"latent": [10.0, -2.0, 0.5]}
JSON = {"Accept": "application/json"}


@pytest.fixture
def careful(settings: Settings) -> Settings:
    return settings.model_copy(update={"sensitive_attributes": False})


@pytest.fixture
def client(careful: Settings) -> Iterator[TestClient]:
    with fakes.serving(careful) as client:
        yield client


def refused(response, field: str) -> None:
    """A 403 that names the field, the rule and the setting."""
    body = problem(response, 403)
    assert fields(body) == [field]
    assert "sensitive" in body["detail"]
    assert "FACET_SENSITIVE_ATTRIBUTES" in body["detail"]
    assert field in body["detail"]


def test_they_are_off_by_default():
    assert Settings().sensitive_attributes is False


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("ALL", True),
        ("1", True),
        ("false", False),
        ("", False),
        ("Male", frozenset({"Male"})),
        ("Male, Young,", frozenset({"Male", "Young"})),
    ],
)
def test_the_setting_is_a_switch_or_names(monkeypatch, text: str, value: object):
    monkeypatch.setenv("FACET_SENSITIVE_ATTRIBUTES", text)
    assert Settings().sensitive_attributes == value


def test_some_may_be_enabled_by_name(manifest: Manifest):
    place = ATTRIBUTES.index("Male")
    assert (
        DisabledAttributes.of(manifest, False)
        == DisabledAttributes.of(manifest, {"Young"})
        == DisabledAttributes({"Male": place})
    )
    assert DisabledAttributes.of(manifest, {"Male"}) == DisabledAttributes.of(manifest, True) == DisabledAttributes({})


def test_a_mistyped_name_is_a_warning(settings: Settings, caplog):
    with fakes.serving(settings.model_copy(update={"sensitive_attributes": frozenset({"Mael", "Male"})})):
        pass
    assert [r.getMessage() for r in caplog.records if "FACET_SENSITIVE" in r.getMessage()] == [
        "FACET_SENSITIVE_ATTRIBUTES: no model has a sensitive Mael"
    ]
    caplog.clear()
    with fakes.serving(settings):
        pass
    assert "FACET_SENSITIVE" not in caplog.text


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("generate", {"attributes": {"Smiling": 1, "Male": 1}}, "attributes.Male"),
        ("generate", {"attributes": [0, 0, -1, -1, 0.5]}, "attributes.Male"),
        ("edit", {"attributes": {"Male": -1}, "source_attributes": ORDINARY, **LATENT}, "attributes.Male"),
        (
            "edit",
            {"attributes": {"Smiling": 1}, "source_attributes": ORDINARY | {"Male": 1}, **LATENT},
            "source_attributes.Male",
        ),
        ("sweep", {"attribute": "Male", "seed": 1}, "attribute"),
        ("sweep", {"attribute": ["Smiling", "Male"], "seed": 1, "steps": 2}, "attribute"),
        ("sweep", {"attribute": "Smiling", "seed": 1, "attributes": {"Male": 1}}, "attributes.Male"),
    ],
)
def test_naming_one_is_refused(client: TestClient, path: str, params: dict[str, Any], field: str):
    refused(client.post(f"/v1/{path}", json=params), field)


def test_naming_one_beside_a_picture_is_refused(client: TestClient):
    for path in ("encode", "edit"):
        picture = {"image": fakes.grey(40)}
        refused(client.post(f"/v1/{path}", files=picture, data={"attributes": '{"Male": 1}'}), "attributes.Male")


def test_saying_nothing_of_one_is_allowed(client: TestClient):
    for unsaid in ({"Male": None}, [None] * len(ATTRIBUTES)):
        assert client.post("/v1/generate", json={"attributes": unsaid}).status_code == 200


def test_a_misspelt_name_is_still_a_misspelt_name(client: TestClient):
    assert fields(problem(client.post("/v1/generate", json={"attributes": {"Malle": 1}}), 422)) == ["attributes.Malle"]


def test_no_answer_tells_one(client: TestClient):
    picture = {"image": fakes.grey(40)}
    found = client.post("/v1/encode", files=picture).json()
    assert [list(face["attributes"]) for face in found["faces"]] == [TOLD]
    answers = [
        client.post("/v1/generate", json={"count": 2}, headers=JSON),
        client.post("/v1/edit", files=picture, data={"attributes": '{"Smiling": 1}'}, headers=JSON),
        client.post(
            "/v1/sweep", json={"attribute": "Smiling", "seed": 1, "steps": 3, "layout": "frames"}, headers=JSON
        ),
    ]
    for answer in answers:
        assert answer.status_code == 200, answer.text
        assert [list(image["attributes"]) for image in answer.json()["images"]] == [TOLD] * len(answer.json()["images"])
        assert "Male" not in answer.text


def test_a_face_can_be_edited_by_what_encode_told(client: TestClient):
    (face,) = client.post("/v1/encode", files={"image": fakes.grey(40)}).json()["faces"]
    source = {"latent": face["latent"], "source_attributes": face["attributes"]}
    for path, params in (("edit", {"attributes": {"Smiling": 1}}), ("sweep", {"attribute": "Smiling", "steps": 2})):
        assert client.post(f"/v1/{path}", json=params | source).status_code == 200
    del face["attributes"]["Smiling"]
    body = problem(client.post("/v1/edit", json={"attributes": {"Smiling": 1}} | source), 422)
    assert "missing: Smiling" in body["detail"]


def test_what_is_disabled_is_filled_from_the_rest(client: TestClient):
    """In the prior of the tests men wear glasses, with a covariance of 0.9."""
    seen = []
    model = fakes.model_of(client)
    decode = model.runtime.decoder
    model.decoder._run = lambda inputs: seen.append(inputs["attributes"][0]) or decode(inputs)
    for glasses in (1.0, -0.5):
        source = ORDINARY | {"Eyeglasses": glasses}
        params = {"attributes": {"Smiling": 1}, "source_attributes": source, **LATENT}
        assert client.post("/v1/edit", json=params).status_code == 200
        drawn = dict(zip(ATTRIBUTES, seen.pop(), strict=True))
        assert drawn["Male"] == pytest.approx(0.9 * glasses, abs=1e-2)
        assert {name: value for name, value in drawn.items() if name != "Male"} == source | {"Smiling": 1}


def test_the_expected_rest_lies_within_what_labels_can_be(client: TestClient):
    sampler = fakes.model_of(client).sampler
    known = np.array([1, 2, -1, -1, np.nan], dtype=np.float32)
    filled = sampler.expected(known)
    assert filled.dtype == np.float32
    assert np.array_equal(filled[:4], known[:4])
    assert -1 <= filled[4] <= 1
    assert np.isfinite(sampler.expected(np.full(5, np.nan, dtype=np.float32))).all()


def test_generated_faces_have_them_drawn(client: TestClient, settings: Settings):
    """The same pictures, whether they are told or not."""
    params = {"seed": 3, "count": 4, "attributes": {"Smiling": 1}}
    with fakes.serving(settings) as open_client:
        open_answer = open_client.post("/v1/generate", json=params)
    assert client.post("/v1/generate", json=params).content == open_answer.content


def test_an_edit_of_a_photo_keeps_what_is_not_told(client: TestClient, settings: Settings):
    params = {"files": {"image": fakes.grey(40)}, "data": {"attributes": '{"Smiling": 1}', "output": "face"}}
    with fakes.serving(settings) as open_client:
        open_answer = open_client.post("/v1/edit", **params)
    assert client.post("/v1/edit", **params).content == open_answer.content


def test_models_say_which_are_enabled(client: TestClient, settings: Settings):
    def enabled(each: TestClient) -> dict[str, bool]:
        return {a["name"]: a["enabled"] for a in each.get("/v1/models/tiny").json()["attributes"]}

    assert enabled(client) == dict.fromkeys(ATTRIBUTES, True) | {"Male": False}
    with fakes.serving(settings) as open_client:
        assert enabled(open_client) == dict.fromkeys(ATTRIBUTES, True)


@pytest.mark.parametrize("name", ["Attractive", "attractive"])
def test_a_bundle_that_rates_looks_is_refused(bundle_directory: Path, settings: Settings, name: str):
    fakes.rewrite_manifest(bundle_directory, lambda manifest: manifest["attributes"][0].update(name=name))
    with pytest.raises(BundleError, match=f"{name} rates people's looks and is never offered") as caught:
        loader.load(bundle_directory)
    assert caught.value.path == bundle_directory / MANIFEST
    with pytest.raises(BundleError, match="never offered"), fakes.serving(settings):
        pass


def test_the_shipped_bundles_mark_what_touches_who_somebody_is():
    root = Path(__file__).parents[3] / "bundles"
    for path in sorted(root.glob("*/manifest.json")):
        marked = {a["name"] for a in json.loads(path.read_text())["attributes"] if a["sensitive"]}
        assert marked == {"Male", "Pale_Skin", "Young"}, path
