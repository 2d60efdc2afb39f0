"""The OpenAPI document: what the framework cannot tell of uploads, errors and headers by itself."""

from __future__ import annotations

import http
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from service import negotiation, uploads
from service.access import Access
from service.problems import MEDIA_TYPE
from service.schemas import ProblemResponse

PROTOCOL = "/v2"  # where the Open Inference Protocol is spoken, whose errors have a shape of their own
_PROBLEM = ProblemResponse.__name__
_REFERENCES = "#/components/schemas/{model}"
_NULL = {"type": "null"}
_FORM = "multipart/form-data"
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_IMAGE_TYPES = [kind for kind in negotiation.MEDIA_TYPES.values() if kind.startswith("image/")]
# Whatever a request asks for, its time may run out, or its headers say something that makes no sense.
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
_REQUEST_ID = {"description": "names the request in the log", "schema": {"type": "string"}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses that are problems, by status."""
    content = {MEDIA_TYPE: {"schema": {"$ref": _REFERENCES.format(model=_PROBLEM)}}}
    return {status: {"description": http.HTTPStatus(status).phrase, "content": content} for status in statuses}


def protocol_errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses in the shape of errors of the Open Inference Protocol, by status."""
    schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
    content = {"application/json": {"schema": schema}}
    return {status: {"description": http.HTTPStatus(status).phrase, "content": content} for status in statuses}


def upload_body(schema: type[BaseModel], *instead: tuple[str, ...]) -> dict[str, Any]:
    """The description of an upload: a form, raw bytes with query parameters, or JSON.

    `instead` lists what may come in place of the picture, each as the parameters that it takes together. JSON carries
    no picture, so it is not accepted where nothing may.
    """
    described = schema.model_json_schema(ref_template=_REFERENCES)
    properties, required = described["properties"], described.get("required", [])
    form = {
        **described,
        "properties": {uploads.IMAGE_FIELD: BINARY["schema"]}
        | {name: _form_field(detail) for name, detail in properties.items()},
    }
    if instead:
        form["anyOf"] = [{"required": [uploads.IMAGE_FIELD]}, *({"required": list(names)} for names in instead)]
    else:
        form["required"] = [uploads.IMAGE_FIELD, *required]
    # What is structured travels as JSON text, arrays too, which OpenAPI would take apart.
    structured = [name for name, field in form["properties"].items() if _structured(field)]
    encoding = {name: {"contentType": "application/json"} for name in structured}
    content: dict[str, Any] = {_FORM: {"schema": form} | ({"encoding": encoding} if encoding else {})}
    content |= dict.fromkeys([*_IMAGE_TYPES, "application/octet-stream"], BINARY)
    if instead:
        given = [{"required": list(names), "properties": {n: {"not": _NULL} for n in names}} for names in instead]
        content["application/json"] = {"schema": {**described, "anyOf": given}}
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


def json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """The description of a body that is JSON and nothing else."""
    content = {"application/json": {"schema": schema.model_json_schema(ref_template=_REFERENCES)}}
    return {"requestBody": {"required": True, "content": content}}


def install(app: FastAPI, access: Access) -> None:
    """Complete the document of an application whose routes are all there; `access` says what takes a key."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _complete(operation, protocol_errors if path.startswith(PROTOCOL) else problems)
                    keyed = access.is_administrable if path.endswith(":reload") else not access.is_open
                    if keyed and "401" in operation["responses"]:
                        operation["security"] = [{"key": []}]
            components = document.setdefault("components", {})
            components["securitySchemes"] = {"key": _KEY}
            schemas = components.setdefault("schemas", {})
            schema = ProblemResponse.model_json_schema(ref_template=_REFERENCES)
            schemas.update(schema.pop("$defs", {}))
            schemas[_PROBLEM] = schema
        return app.openapi_schema

    app.openapi = openapi


def _complete(operation: dict[str, Any], errors: Callable[..., dict[int | str, dict[str, Any]]]) -> None:
    """What the middleware adds to every operation, in place; `errors` gives responses by status."""
    operation.setdefault("parameters", []).append(_TIMEOUT)
    statuses = _ANY_OPERATION + (_ANY_UPLOAD if "requestBody" in operation else ())
    for status, response in errors(*statuses).items():
        operation["responses"].setdefault(str(status), response)
    for response in operation["responses"].values():
        response["headers"] = {"X-Request-ID": _REQUEST_ID} | response.get("headers", {})


def _form_field(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter as a form has it: one that says nothing is left out, and a list of names is one JSON text."""
    choices = [choice for choice in schema.get("anyOf", []) if choice != _NULL]
    if not choices:
        return schema
    if {"type": "string"} in choices:
        choices = [{"type": "string"}]
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**rest, **choices[0]} if len(choices) == 1 else {**rest, "anyOf": choices}


def _structured(schema: dict[str, Any]) -> bool:
    """Whether a value may be an array or an object."""
    kinds = [schema, *schema.get("anyOf", []), *schema.get("oneOf", [])]
    nested = [each for kind in kinds for each in kind.get("oneOf", [])]
    return any(kind.get("type") in ("array", "object") for kind in [*kinds, *nested])
