"""Parameters that break a rule: 422 with the field, the value and the rule."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from service.pipeline.parameters import (
    EditParameters,
    EncodeParameters,
    GenerateParameters,
    PhotoParameters,
    SweepParameters,
    VerifyParameters,
)
from tests.service.api.helpers import ALL_GIVEN, edit, generate
from tests.service.fakes import TestClient, fields, grey, problem


@pytest.mark.parametrize(
    ("params", "field"),
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
def test_a_bad_parameter_is_422_and_named_with_its_value(client: TestClient, params: dict[str, Any], field: str):
    body = problem(generate(client, **params), 422)
    assert fields(body) == [field]
    assert "value" in body["errors"][0]
    assert field in body["detail"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"attributes": {"Smiling": "yes"}}, "attributes.Smiling"),
        ({"attributes": {"Smiling": "1"}}, "attributes.Smiling"),
        ({"attributes": {"Smiling": [1]}}, "attributes.Smiling"),
        ({"attributes": [0, 0, 0, 0, "x"]}, "attributes.4"),
        ({"attributes": 3}, "attributes"),
        ({"attributes": None}, "attributes"),
    ],
)
def test_an_attribute_that_is_no_number_is_named_as_the_client_wrote_it(
    client: TestClient, params: dict[str, Any], field: str
):
    assert fields(problem(generate(client, **params), 422)) == [field]


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


@pytest.mark.parametrize("name", ["\ud800", "\0", "x" * 100_000, "Smilin\n", "<b>", "é"])
def test_strange_names_are_422(client: TestClient, name: str):
    content = json.dumps({"attributes": {name: 1}})
    response = client.post("/v1/generate", content=content, headers={"Content-Type": "application/json"})
    problem(response, 422)
    assert len(response.content) < 3000


@pytest.mark.parametrize(
    ("params", "field"),
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
def test_a_bad_parameter_of_an_edit_is_422_and_named(client: TestClient, params: dict[str, Any], field: str):
    assert fields(problem(edit(client, **params), 422)) == [field]


@pytest.mark.parametrize("name", ["attributes", "source_attributes", "latent"])
def test_a_parameter_nested_too_deeply_is_422(client: TestClient, name: str):
    params = {"attributes": "{}"} | {name: "[" * 50_000}
    problem(edit(client, **params), 422)


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


NONSENSE = (-1, "first", 0.5, 1e308, 10**30, None, True, "", [], [[]], [None], ["x"], {}, {"a": 1}, {"a": {"b": [1]}})
CALLS = {
    "/v1/encode": (EncodeParameters, {}),
    "/v1/generate": (GenerateParameters, {}),
    "/v1/edit": (EditParameters, {"attributes": {}}),
    "/v1/sweep": (SweepParameters, {"attribute": "Smiling", "steps": 2}),
    "/v1/photos": (PhotoParameters, {}),
    "/v1/verify": (VerifyParameters, {}),
}
PICTURE = {"image": base64.b64encode(grey(20)).decode()}


@pytest.mark.parametrize(("path", "field"), [(path, name) for path in CALLS for name in CALLS[path][0].model_fields])
def test_nonsense_in_any_field_is_answered_in_our_words(client: TestClient, path: str, field: str):
    """Field, value and rule, in words that speak of no validator's functions and types."""
    _, others = CALLS[path]
    picture = {} if path == "/v1/generate" else PICTURE
    for value in NONSENSE:
        response = client.post(path, json=picture | others | {field: value})
        assert response.status_code in (200, 404, 410, 422), value
        for error in response.json().get("errors", []) if response.status_code == 422 else []:
            assert error["field"].partition(".")[0] in (field, "image", "source_attributes")
            assert error["rule"].startswith(OUR_WORDS), error


OUR_WORDS = ("must ", "is ", "at most ", "cannot be ", "takes ", "take ")


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("face", "first", "must be a number from 0, or 'all'"),
        ("quality", "high", "must be a whole number"),
        ("quality", 0.5, "must be a whole number"),
        ("quality", 0, "must be at least 1"),
        ("quality", 101, "must be at most 100"),
        ("strength", "0x10", "must be a number"),
        ("strength", "1e999", "must be at most 2"),
        ("strength", 2.5, "must be at most 2"),
        ("format", "tiff", "must be 'png', 'jpeg' or 'webp'"),
        ("model", "[]", "no such model; loaded: tiny"),
        ("region", [1], "must have at least 4 values"),
        ("region", [0] * 5, "must have at most 4 values"),
    ],
)
def test_the_rule_is_named(client: TestClient, field: str, value: Any, rule: str):
    asked = {"attributes": {}, field: value}
    (error,) = edit(client, **asked).json()["errors"]
    assert (error["field"], error["rule"]) == (field, rule)


@pytest.mark.parametrize("field", ["face", "quality", "format", "model", "attributes", "region"])
def test_a_picture_in_a_field_that_takes_none_is_not_echoed(client: TestClient, field: str):
    picture = "iVBORw0KGgo/" * 40
    response = edit(client, **({"attributes": {}} | {field: picture}))
    assert response.status_code in (404, 422)
    assert "iVBORw0KGgo" not in response.text


@pytest.mark.parametrize("steps", [7, 100_000, 10**30])
def test_steps_beyond_what_a_request_may_draw_are_refused_before_they_are_planned(client: TestClient, steps: int):
    asked = {"attribute": ["Smiling", "Eyeglasses"], "seed": 1, "steps": steps}
    found = problem(client.post("/v1/sweep", json=asked), 422)
    assert fields(found) == ["steps"]


def test_a_face_more_than_a_request_may_draw_is_refused(client: TestClient):
    others = [{"face": face, "attributes": {}} for face in range(1, 5000)]
    found = problem(edit(client, attributes={}, others=others, output="photo"), 422)
    assert fields(found) == ["others"]
