"""What requests may call attributes, and how they may give values: other names, truth values, CelebA's lists."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.bundle import celeba
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import ATTRIBUTES, TestClient, grey, problem

SHOWN = dict.fromkeys(ATTRIBUTES, 0.25)
IGNORED = "x-facet-ignored-attributes"


@pytest.fixture
def bundle_directory(bundle_directory: Path) -> Path:
    def change(values: dict[str, Any]) -> None:
        by_name = {attribute["name"]: attribute for attribute in values["attributes"]}
        by_name["Eyeglasses"]["aliases"] = ["glasses"]
        by_name["Male"] |= {"aliases": ["man"], "opposites": ["woman"]}

    fakes.rewrite_manifest(bundle_directory, change)
    return bundle_directory


@pytest.fixture
def disabling(settings: Settings) -> Iterator[TestClient]:
    with fakes.serving(settings.model_copy(update={"sensitive_attributes": False})) as client:
        yield client


def edit(client: TestClient, attributes: Any, **fields: Any) -> Any:
    data = {"attributes": json.dumps(attributes), **fields}
    headers = {"Accept": "application/json"}
    return client.post("/v1/edit", files={"image": ("face.png", grey(60))}, data=data, headers=headers)


def edited(client: TestClient, attributes: Any, **fields: Any) -> dict[str, float]:
    answer = edit(client, attributes, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()["images"][0]["attributes"]


def test_an_edit_understands_other_names(client: TestClient):
    found = edited(client, {"smiling": 1, "Glasses": -1, "Black Hair": 0.5, "woman": 1})
    assert found == {"Smiling": 1, "Eyeglasses": -1, "Black_Hair": 0.5, "Blond_Hair": -1, "Male": -1}


def test_source_attributes_do_too(client: TestClient):
    found = edited(client, {"Smiling": 1}, source_attributes=json.dumps({"GLASSES": 1, "woman": 0.5}))
    assert found == SHOWN | {"Smiling": 1, "Eyeglasses": 1, "Male": -0.5}


@pytest.mark.parametrize(("value", "level"), [(True, 1), (False, -1)])
def test_truth_values_are_levels(client: TestClient, value: bool, level: int):
    assert edited(client, {"Smiling": value}) == SHOWN | {"Smiling": level}
    assert edited(client, [value, None, None, None, None]) == SHOWN | {"Smiling": level}
    body = {"attributes": {"Smiling": value}, "seed": 1}
    answer = client.post("/v1/generate", json=body, headers={"Accept": "application/json"})
    assert answer.json()["images"][0]["attributes"]["Smiling"] == level


def forty(**values: float | None) -> list[float | None]:
    return [values.get(name.replace("5_o", "five_o"), -1.0) for name in celeba.ATTRIBUTES]


def test_a_list_of_forty_is_celebas(client: TestClient):
    answer = edit(client, forty(Smiling=1, Male=1, Black_Hair=None, Young=None))
    found = answer.json()["images"][0]["attributes"]
    assert found == {"Smiling": 1, "Eyeglasses": -1, "Black_Hair": 0.25, "Blond_Hair": -1, "Male": 1}
    ignored = answer.headers[IGNORED].split(", ")
    assert ignored == [name for name in celeba.ATTRIBUTES if name not in {*ATTRIBUTES, "Young"}]


def test_of_a_list_of_forty_what_is_disabled_is_ignored(disabling: TestClient):
    answer = edit(disabling, forty(Smiling=1, Male=1))
    assert answer.status_code == 200, answer.text
    assert "Male" in answer.headers[IGNORED].split(", ")
    assert problem(edit(disabling, {"woman": 1}), 403)["errors"][0]["field"] == "attributes.Male"


def test_nothing_is_said_to_be_ignored_where_nothing_is(client: TestClient):
    assert IGNORED not in edit(client, {"Smiling": 1}).headers
    only = dict.fromkeys(celeba.ATTRIBUTES) | dict.fromkeys(ATTRIBUTES, -1.0)
    assert IGNORED not in edit(client, list(only.values())).headers


@pytest.mark.parametrize("count", [4, 6, 39, 41])
def test_a_list_of_another_length_tells_both(client: TestClient, count: int):
    rule = problem(edit(client, [0] * count), 422)["errors"][0]["rule"]
    assert "5 values" in rule
    assert "40" in rule


def sweep(client: TestClient, attribute: Any, **fields: Any) -> Any:
    body = {"attribute": attribute, "seed": 3, "steps": 3, "layout": "frames", **fields}
    return client.post("/v1/sweep", json=body, headers={"Accept": "application/json"})


@pytest.mark.parametrize(
    ("name", "own", "sign"), [("smiling", "Smiling", 1), ("glasses", "Eyeglasses", 1), ("woman", "Male", -1)]
)
def test_a_sweep_understands_other_names(client: TestClient, name: str, own: str, sign: int):
    other, plain = sweep(client, name, target=0.5).json(), sweep(client, own, target=0.5 * sign).json()
    assert other == plain
    assert other["images"][-1]["attributes"][own] == 0.5 * sign


def test_a_grid_may_mix_a_name_and_an_opposite(client: TestClient):
    answer = sweep(client, ["smiling", "woman"], steps=2, size=64)
    assert answer.status_code == 200, answer.text
    images = answer.json()["images"]
    assert [(each["attributes"]["Smiling"], each["attributes"]["Male"]) for each in images][-1] == (1, -1)


def test_a_strip_is_labelled_with_the_models_own_name(client: TestClient):
    def strip(name: str, target: float) -> np.ndarray:
        answer = client.post("/v1/sweep", json={"attribute": name, "seed": 3, "steps": 2, "target": target})
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    assert np.array_equal(strip("woman", 1), strip("Male", -1))


def test_a_sweep_of_what_is_disabled_is_refused_by_any_name(disabling: TestClient):
    for name in ("Male", "male", "man", "woman"):
        assert problem(sweep(disabling, name), 403)["errors"][0]["value"] == "Male"


def test_models_tell_their_other_names(client: TestClient):
    attributes = {each["name"]: each for each in client.get("/v1/models/tiny").json()["attributes"]}
    assert attributes["Male"]["aliases"] == ["man"]
    assert attributes["Male"]["opposites"] == ["woman"]
    assert attributes["Smiling"]["aliases"] == []
