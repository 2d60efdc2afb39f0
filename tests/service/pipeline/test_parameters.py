"""Parameters that break a rule are one problem, which names each field as the caller wrote it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from service.errors import Problem, printable
from service.pipeline import parameters
from service.pipeline.parameters import (
    EditParameters,
    EncodeParameters,
    GenerateParameters,
    SweepParameters,
    VerifyParameters,
)


class Question(BaseModel):
    count: int
    name: str = "x"


def errors_of(values: Any) -> list[Any]:
    with pytest.raises(ValidationError) as caught:
        Question.model_validate(values)
    return caught.value.errors()


def test_validation_errors_list_field_value_and_rule():
    found = parameters.from_validation(errors_of({"count": "many", "name": 3}))
    assert found.status == 422
    assert [(e["field"], e["value"]) for e in found.errors] == [("count", "many"), ("name", 3)]
    assert all(e["rule"] for e in found.errors)
    assert "count" in found.detail
    assert "name" in found.detail


def test_a_missing_field_is_required_and_has_no_value():
    assert parameters.from_validation(errors_of({})).errors == [{"field": "count", "rule": "is required"}]


def test_the_place_where_fastapi_looked_is_not_part_of_the_field():
    error = {"type": "int_parsing", "loc": ("query", "count"), "msg": "not a number", "input": "x"}
    assert parameters.from_validation([error]).errors[0]["field"] == "count"


def test_parameters_are_checked_and_completed():
    params = parameters.parse(EditParameters, {"attributes": {"Smiling": 1}})
    assert (params.strength, params.face, params.format, params.bare) == (1.0, 0, "png", False)
    assert parameters.parse(EditParameters, {"attributes": '{"Smiling": 1}', "output": "face"}).bare


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"attributes": {"Smiling": "1"}}, ["attributes.Smiling"]),
        ({"attributes": [0, "x"]}, ["attributes.1"]),
        ({"count": 0, "colour": "blue"}, ["count", "colour"]),
    ],
)
def test_what_breaks_a_rule_is_one_problem(values: dict[str, Any], fields: list[str]):
    with pytest.raises(Problem) as caught:
        parameters.parse(GenerateParameters, values)
    assert (caught.value.status, [error["field"] for error in caught.value.errors]) == (422, fields)


def test_of_many_errors_the_first_are_listed():
    problem = parameters.from_validation(errors_of({"count": "x"}) * 30)
    assert len(problem.errors) == 21
    assert problem.errors[-1]["rule"] == "10 more errors"


REQUIRED: dict[type[BaseModel], dict[str, Any]] = {
    EncodeParameters: {},
    GenerateParameters: {},
    EditParameters: {"attributes": {}},
    SweepParameters: {"attribute": "Smiling"},
    VerifyParameters: {},
}
ODD: list[Any] = ["", "first", "-1", "0.5", "true", "null", "[", "[1]", "{}", "1e999", "NaN", "9" * 400]
ODD += [None, -1, 0.5, 1e30, [1], [[1]], [None], {}, {"a": "x"}, ["a", "b", "c"], {"a": [1]}]


def errors(schema: type[BaseModel], values: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        parameters.parse(schema, values)
    except Problem as exc:
        return exc.errors
    return []


@pytest.mark.parametrize("schema", REQUIRED)
def test_every_error_names_a_field_and_a_rule_in_plain_words(schema: type[BaseModel]):
    found = 0
    for field in [*schema.model_fields, "bogus"]:
        for value in ODD:
            listed = errors(schema, REQUIRED[schema] | {field: value})
            found += len(listed)
            assert len({error["field"] for error in listed}) == len(listed)
            for error in listed:
                assert re.fullmatch(rf"{field}(\.(a|\d))*", error["field"])
                assert not re.search(r"[_()\[\]]|function|dictionary|constrained|literal", error["rule"]), error
    assert found


@pytest.mark.parametrize("schema", [EncodeParameters, EditParameters])
@pytest.mark.parametrize("value", [-1, "-1", "first", "0.5", 0.5, "", None, [0], True, False, "ALL"])
def test_a_face_is_a_number_or_all(schema: type[BaseModel], value: Any):
    (error,) = errors(schema, REQUIRED[schema] | {"face": value})
    assert error == {"field": "face", "rule": "must be a number from 0, or 'all'", "value": printable(value)}


@pytest.mark.parametrize(("value", "expected"), [("0", 0), (3, 3), ("all", "all"), ("12", 12)])
def test_a_face_may_be_text(value: Any, expected: Any):
    assert EncodeParameters.model_validate({"face": value}).face == expected


MANY = 100_000


@pytest.mark.parametrize(
    ("schema", "values"),
    [
        (GenerateParameters, {"latents": ["x"] * MANY}),
        (GenerateParameters, {"latents": [["x"] * MANY]}),
        (GenerateParameters, {"attributes": {str(number): "x" for number in range(MANY)}}),
        (GenerateParameters, {"attributes": ["x"] * MANY}),
        (GenerateParameters, {f"parameter{number}": 1 for number in range(MANY)}),
        (EditParameters, {"attributes": {}, "others": [{}] * MANY}),
        (EditParameters, {"attributes": {}, "variants": ["x"] * MANY}),
        (EditParameters, {"attributes": {}, "region": ["x"] * MANY}),
        (SweepParameters, {"attribute": [1] * MANY}),
    ],
)
def test_of_many_wrong_values_few_are_looked_at(schema: type, values: dict, monkeypatch: pytest.MonkeyPatch):
    """A megabyte of them occupied the event loop for twelve seconds."""
    listed = []
    monkeypatch.setattr(parameters, "from_validation", lambda found: listed.extend(found) or Problem(422, ""))
    with pytest.raises(Problem):
        parameters.parse(schema, values)
    assert len(listed) <= 4
