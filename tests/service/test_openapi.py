"""What the document tells of uploads, bounds and errors; benchmarks.faults.schema holds the service to it."""

from __future__ import annotations

from typing import Any

import pytest

from service.schemas import LATENT_LIMIT, LEVEL_LIMIT, MAX_SEED
from tests.service.fakes import TestClient


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def content(document: dict[str, Any], path: str) -> dict[str, Any]:
    return document["paths"][path]["post"]["requestBody"]["content"]


def test_every_operation_tells_of_its_deadline_and_its_id(document: dict[str, Any]):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert any(each["name"] == "X-Request-Timeout" for each in operation["parameters"]), path
            statuses = {"422", "504"} | ({"408", "413"} if "requestBody" in operation else set())
            assert statuses <= set(operation["responses"]), (method, path)
            assert all("X-Request-ID" in each["headers"] for each in operation["responses"].values())


def test_problems_refer_to_a_schema_that_is_there(document: dict[str, Any]):
    response = document["paths"]["/v1/edit"]["post"]["responses"]["422"]
    reference = response["content"]["application/problem+json"]["schema"]["$ref"]
    assert set(document["components"]["schemas"][reference.rpartition("/")[2]]["required"]) >= {"status", "detail"}


def test_a_form_needs_its_picture_unless_something_stands_for_it(document: dict[str, Any]):
    assert content(document, "/v1/encode")["multipart/form-data"]["schema"]["required"] == ["image"]
    edit = content(document, "/v1/edit")["multipart/form-data"]["schema"]
    assert edit["required"] == ["attributes"]
    assert edit["anyOf"] == [{"required": ["image"]}, {"required": ["latent", "source_attributes"]}]


def test_json_carries_no_picture(document: dict[str, Any]):
    assert "application/json" not in content(document, "/v1/encode")
    needed = [choice["required"] for choice in content(document, "/v1/sweep")["application/json"]["schema"]["anyOf"]]
    assert needed == [["seed"], ["latent", "source_attributes"]]


def test_a_form_has_no_null_and_lists_of_names_are_text(document: dict[str, Any]):
    schema = content(document, "/v1/sweep")["multipart/form-data"]["schema"]
    assert "null" not in {
        kind.get("type") for field in schema["properties"].values() for kind in field.get("anyOf", [])
    }
    assert schema["properties"]["attribute"]["type"] == "string"
    encoding = content(document, "/v1/sweep")["multipart/form-data"]["encoding"]
    assert set(encoding) == {"latent", "source_attributes", "attributes"}
    assert all(each == {"contentType": "application/json"} for each in encoding.values())


def test_bounds_that_are_checked_are_told(document: dict[str, Any]):
    fields = content(document, "/v1/generate")["application/json"]["schema"]["properties"]
    assert fields["seed"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
    (level, _) = fields["attributes"]["oneOf"][0]["additionalProperties"]["anyOf"]
    assert (level["minimum"], level["maximum"]) == (-LEVEL_LIMIT, LEVEL_LIMIT)
    latents = fields["latents"]["anyOf"][0]
    assert latents["minItems"] == 1
    assert latents["items"]["items"]["maximum"] == LATENT_LIMIT
    face = content(document, "/v1/edit")["multipart/form-data"]["schema"]["properties"]["face"]
    assert face["anyOf"] == [{"type": "integer", "minimum": 0}, {"type": "string", "const": "all"}]


@pytest.mark.parametrize(("path", "allowed"), [("/v1/models/tiny:reload", "POST"), ("/v1/models/tiny", "GET")])
def test_options_tell_the_methods_that_there_are(client: TestClient, path: str, allowed: str):
    response = client.options(path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed
