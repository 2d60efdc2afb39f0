"""The OpenAPI document: additions for uploads, errors and headers, which FastAPI does not generate."""

from __future__ import annotations

import base64
import http
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from service.api import negotiation, uploads
from service.api.problems import MEDIA_TYPE
from service.api.schemas import ProblemResponse
from service.auth.access import KEY_HEADER, Access

PROTOCOL = "/v2"  # prefix of the Open Inference Protocol, whose errors have another shape
_PROBLEM = ProblemResponse.__name__
_REFERENCES = "#/components/schemas/{model}"
_NULL = {"type": "null"}
_FORM = "multipart/form-data"
# Drawn by the bundle celeba128 from seed 10 without glasses, in its own frame.
_EXAMPLE_PICTURE = (Path(__file__).parent / "static" / "reference" / "example.webp").read_bytes()
_BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "contentMediaType": "image/*",
    "description": "the picture in base64, bare or as a `data:` URL",
}
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_IMAGE_TYPES = [kind for kind in negotiation.MEDIA_TYPES.values() if kind.startswith("image/")]
# Any request may have an invalid header, or reach its deadline.
_ANY_OPERATION = (422, 504)
_ANY_UPLOAD = (408, 413)
_TIMEOUT = {
    "name": "X-Request-Timeout",
    "in": "header",
    "required": False,
    "description": "seconds after which the client gives up, and the service with it",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
_KEY = {"type": "http", "scheme": "bearer", "description": "A key that the operator of the service gave you."}
_BARE_KEY = {"type": "apiKey", "in": "header", "name": KEY_HEADER, "description": "The same key by itself."}
_REQUEST_ID = {"description": "names the request in the log", "schema": {"type": "string"}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses with problems (RFC 9457), by status."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCES.format(model=_PROBLEM)}}}
    return {status: {"description": http.HTTPStatus(status).phrase, "content": content} for status in statuses}


def protocol_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses with errors of the Open Inference Protocol, by status."""
    schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": http.HTTPStatus(status).phrase, "content": content} for status in statuses}


def upload_body(schema: type[BaseModel], *instead: tuple[str, ...], **example: Any) -> dict[str, Any]:
    """The description of an upload: JSON, a form, or raw bytes with query parameters.

    `instead` lists alternatives to the picture, each a set of required parameters. `example` has parameters for a
    picture of a face; both together are the example of JSON, which gets an answer when it is sent unchanged.
    """
    described = _inlined(schema.model_json_schema(ref_template="{model}"))
    properties, required = described["properties"], described.get("required", [])
    form = {
        **described,
        "properties": {uploads.IMAGE_FIELD: BINARY["schema"]}
        | {name: _form_field(detail, name in required) for name, detail in properties.items()},
    }
    as_json = {**described, "properties": {uploads.IMAGE_FIELD: _BASE64, **properties}}
    if instead:
        sources = [(uploads.IMAGE_FIELD,), *instead]
        form["anyOf"] = [{"required": list(names)} for names in sources]
        as_json["anyOf"] = [
            {"required": list(names), "properties": {n: {"not": _NULL} for n in names}} for names in sources
        ]
    else:
        form["required"] = as_json["required"] = [uploads.IMAGE_FIELD, *required]
    # Structured values are sent as JSON text. This includes arrays, which OpenAPI would send as repeated fields.
    structured = [name for name, field in form["properties"].items() if _structured(field)]
    encoding = {name: {"contentType": "application/json"} for name in structured}
    picture = f"data:image/webp;base64,{base64.b64encode(_EXAMPLE_PICTURE).decode()}"
    # JSON first: tools show the first type, and this one can be sent unchanged.
    content: dict[str, Any] = {
        uploads.JSON: {"schema": as_json, "example": {uploads.IMAGE_FIELD: picture, **example}},
        _FORM: {"schema": form} | ({"encoding": encoding} if encoding else {}),
    }
    content |= dict.fromkeys([*_IMAGE_TYPES, "application/octet-stream"], BINARY)
    query = [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": f"beside a picture that is the whole body: {detail.get('description', name)}",
            "schema": {"type": "string"},
        }
        for name, detail in properties.items()
    ]
    return {"requestBody": {"required": True, "content": content}, "parameters": query}


def _inlined(described: dict[str, Any]) -> dict[str, Any]:
    """The schema with each model within it in place of the reference to it, which is its name."""
    models = described.pop("$defs", {})

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(each) for each in part]
        if not isinstance(part, dict):
            return part
        model = models.get(part.get("$ref"), {})
        return {key: resolved(value) for key, value in (model | part).items() if key != "$ref"}

    return resolved(described)


def json_body(schema: type[BaseModel], **example: Any) -> dict[str, Any]:
    """The description of a body that must be JSON, with an example that gets an answer when it is sent unchanged."""
    described = schema.model_json_schema(ref_template=_REFERENCES)
    content = {uploads.JSON: {"schema": described, "example": example}}
    return {"requestBody": {"required": True, "content": content}}


def install(app: FastAPI, access: Access) -> None:
    """Complete the document of an application that has all its routes; `access` tells which of them need a key."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _complete(operation, protocol_errors if path.startswith(PROTOCOL) else problems)
                    keyed = access.is_administrable if path.endswith(":reload") else not access.is_open
                    if keyed and "401" in operation["responses"]:
                        operation["security"] = [{"key": []}, {"bare_key": []}]
            components = document.setdefault("components", {})
            components["securitySchemes"] = {"key": _KEY, "bare_key": _BARE_KEY}
            schemas = components.setdefault("schemas", {})
            schema = ProblemResponse.model_json_schema(ref_template=_REFERENCES)
            schemas.update(schema.pop("$defs", {}))
            schemas[_PROBLEM] = schema
        return app.openapi_schema

    app.openapi = openapi


def _complete(operation: dict[str, Any], errors: Callable[..., dict[int | str, dict[str, Any]]]) -> None:
    """Add the parameters, errors and headers of the middleware, in place; `errors` gives responses by status."""
    operation.setdefault("parameters", []).append(_TIMEOUT)
    statuses = _ANY_OPERATION + (_ANY_UPLOAD if "requestBody" in operation else ())
    for status, response in errors(*statuses).items():
        operation["responses"].setdefault(str(status), response)
    for response in operation["responses"].values():
        response["headers"] = {"X-Request-ID": _REQUEST_ID} | response.get("headers", {})


def _form_field(schema: dict[str, Any], required: bool) -> dict[str, Any]:
    """A parameter as a form field: null is expressed by leaving it out, and a list of names is one JSON text.

    Examples of optional fields are left out, since tools fill them in.
    """
    schema = schema if required else _without_examples(schema)
    choices = [choice for choice in schema.get("anyOf", []) if choice != _NULL]
    if not choices:
        return schema
    if {"type": "string"} in choices:
        choices = [{"type": "string"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**rest, **choices[0]} if len(choices) == 1 else {**rest, "anyOf": choices}


def _without_examples(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_examples(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_examples(value) for key, value in schema.items() if key != "examples"}


def _structured(schema: dict[str, Any]) -> bool:
    """Whether a value may be an array or an object."""
    kinds = [schema, *schema.get("anyOf", []), *schema.get("oneOf", [])]
    nested = [each for kind in kinds for each in kind.get("oneOf", [])]
    return any(kind.get("type") in ("array", "object") for kind in [*kinds, *nested])
