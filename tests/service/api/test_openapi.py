"""What the document tells of uploads, bounds and errors; benchmarks.faults.schema holds the service to it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.pipeline.parameters import LATENT_LIMIT, LEVEL_LIMIT, MAX_SEED
from service.settings import Settings
from tests.service import fakes
from tests.service.api.helpers import WORK
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
    assert content(document, "/v1/verify")["multipart/form-data"]["schema"]["required"] == ["image"]
    edit = content(document, "/v1/edit")["multipart/form-data"]["schema"]
    assert edit["required"] == ["attributes"]
    assert edit["anyOf"] == [
        {"required": ["image"]},
        {"required": ["photo"]},
        {"required": ["latent", "source_attributes"]},
    ]


def test_json_carries_the_picture_in_base64_unless_something_stands_for_it(document: dict[str, Any]):
    for path in ("/v1/encode", "/v1/edit", "/v1/sweep", "/v1/verify"):
        image = content(document, path)["application/json"]["schema"]["properties"]["image"]
        assert (image["type"], image["contentEncoding"]) == ("string", "base64")
    assert content(document, "/v1/verify")["application/json"]["schema"]["required"] == ["image"]
    encode = content(document, "/v1/encode")["application/json"]["schema"]
    assert [choice["required"] for choice in encode["anyOf"]] == [["image"], ["photo"]]
    sweep = content(document, "/v1/sweep")["application/json"]["schema"]
    assert sweep["required"] == ["attribute"]
    needed = [choice["required"] for choice in sweep["anyOf"]]
    assert needed == [["image"], ["photo"], ["seed"], ["latent", "source_attributes"]]
    assert "image" not in content(document, "/v1/generate")["application/json"]["schema"]["properties"]


CALLS = ["/v1/encode", "/v1/generate", "/v1/edit", "/v1/sweep", "/v1/verify", "/v1/photos"]


def examples(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of each body: the path, and how to send it. The required fields of a form are its example, beside a picture."""
    bodies = {path: content(document, path) for path in CALLS}
    picture = base64.b64decode(bodies["/v1/encode"]["application/json"]["example"]["image"].partition(",")[2])
    for path, body in bodies.items():
        for kind, described in body.items():
            if "example" in described:
                yield path, {"content": json.dumps(described["example"]), "headers": {"Content-Type": kind}}
        if form := body.get("multipart/form-data"):
            fields = form["schema"]["properties"]
            given = {
                name: fields[name]["examples"][0] for name in form["schema"].get("required", []) if name != "image"
            }
            # As its encoding says: JSON, which is sent as a file, or text.
            parts = [
                (name, ("blob", json.dumps(value), "application/json") if name in form["encoding"] else (None, value))
                for name, value in given.items()
            ]
            framed = {} if path in ("/v1/verify", "/v1/photos") else {"framed": "true"}
            yield path, {"files": [("image", ("face.webp", picture)), *parts], "params": framed}


def run_examples(client: TestClient) -> list[str]:
    document, sent = client.get("/openapi.json").json(), []
    for path, request in examples(document):
        answer = client.post(path, **request)
        assert answer.status_code == 200, (path, answer.text)
        assert answer.headers["content-type"] in document["paths"][path]["post"]["responses"]["200"]["content"]
        sent.append(path)
    return sent


def test_every_example_can_be_sent_as_it_stands(settings: Settings):
    roomy = settings.model_copy(update={"max_count": 8, "max_image_pixels": 10**6})
    with fakes.serving(roomy) as client:
        assert sorted(run_examples(client)) == sorted([*CALLS, *(set(CALLS) - {"/v1/generate"})])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["celeba64", "celeba128"])
def test_the_examples_suit_the_shipped_bundles(model: str, tmp_path: Path):
    bundles = Path(__file__).parents[3] / "bundles"
    (tmp_path / model).symlink_to(bundles / model, target_is_directory=True)
    settings = Settings(bundles=tmp_path, default_model=model, weights=tmp_path / "none", device="cpu")
    with TestClient(create_app(settings, registry=CollectorRegistry())) as client:
        assert len(run_examples(client)) == 11


def test_what_a_form_does_not_need_is_not_filled_in(document: dict[str, Any]):
    for path in ("/v1/encode", "/v1/edit", "/v1/sweep"):
        schema = content(document, path)["multipart/form-data"]["schema"]
        for name, field in schema["properties"].items():
            if name not in schema.get("required", []):
                assert "examples" not in json.dumps(field), name


def test_a_form_has_no_null_and_lists_of_names_are_text(document: dict[str, Any]):
    schema = content(document, "/v1/sweep")["multipart/form-data"]["schema"]
    assert "null" not in {
        kind.get("type") for field in schema["properties"].values() for kind in field.get("anyOf", [])
    }
    assert schema["properties"]["attribute"]["type"] == "string"
    encoding = content(document, "/v1/sweep")["multipart/form-data"]["encoding"]
    assert set(encoding) == {"latent", "source_attributes", "attributes", "region"}
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


@pytest.mark.parametrize(("path", "allowed"), [("/v1/models/tiny:reload", "POST"), ("/v1/models/tiny", "GET, HEAD")])
def test_options_tell_the_methods_that_there_are(client: TestClient, path: str, allowed: str):
    response = client.options(path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed


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
