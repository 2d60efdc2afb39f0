"""Experimental edits are refused with their reason unless they are allowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from service.settings import Settings
from tests.service import fakes
from tests.service.api.editor.conftest import ALL_KNOWN, batches, edit, sweep
from tests.service.api.helpers import facts
from tests.service.fakes import TestClient, grey, problem

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
    ("requested", "value", "direction"),
    [({"Smiling": 1}, 1, "added"), ({"Eyeglasses": -1}, -1, "removed"), ({"Male": 1, "Black_Hair": -1}, -1, "removed")],
)
@pytest.mark.parametrize("output", ["photo", "face"])
def test_an_experimental_edit_is_refused_with_its_reason(
    cautious: TestClient, requested: dict, value: float, direction: str, output: str
):
    body = problem(edit(cautious, grey(100), attributes=requested, output=output), 422)
    (error,) = body["errors"]
    name = list(requested)[-1]
    assert (error["field"], error["value"]) == (f"attributes.{name}", value)
    verb = f"adding {name} to" if direction == "added" else f"removing {name} from"
    assert error["rule"] == f"{verb} a photograph is experimental: {REASONS[direction]}; experimental=true allows it"
    assert edit(cautious, grey(100), attributes=requested, output=output, experimental=True).status_code == 200


@pytest.mark.parametrize(
    "requested",
    [
        {"attributes": {"Smiling": -1}},
        {"attributes": {"Smiling": 0.2}},  # the face shows 0.25
        {"attributes": {"Eyeglasses": 1}},
        {"attributes": {"Blond_Hair": 1}},  # switches black hair off by itself
        {"attributes": {"Smiling": 1}, "strength": 0},
        {"attributes": {"Smiling": 1}, "source_attributes": {"Smiling": 1}},
    ],
)
def test_what_is_not_experimental_is_not_refused(cautious: TestClient, requested: dict):
    assert edit(cautious, grey(100), **requested).status_code == 200


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
