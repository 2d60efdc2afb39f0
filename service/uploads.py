"""How a picture and its parameters arrive: as a form, as raw bytes, or as JSON without a picture."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import Headers, UploadFile

from service.problems import Problem, invalid

log = logging.getLogger(__name__)

IMAGE_FIELD = "image"
# JSON is parsed on the event loop; 64 latents take some 200 kB.
MAX_JSON_BYTES = 1_000_000
_FORM = "multipart/form-data"
JSON = "application/json"
# The last is what curl --data-binary says unless it is told otherwise.
_RAW = ("application/octet-stream", "application/x-www-form-urlencoded", "")

Parameters = TypeVar("Parameters", bound=BaseModel)


@dataclass(frozen=True)
class Upload:
    """A request's picture, if it has one, and its parameters by name, not yet validated."""

    image: bytes | None
    fields: dict[str, Any]

    def parameters(self, schema: type[Parameters]) -> Parameters:
        """The parameters checked against `schema`. Raises pydantic.ValidationError."""
        return schema.model_validate(self.fields)

    def picture(self) -> bytes:
        """The picture. Raises a 422 Problem where there is none."""
        if self.image is None:
            raise invalid(IMAGE_FIELD, None, "is required: a form field of that name, or the body itself")
        return self.image


async def read(request: Request) -> Upload:
    """Read the body by its content type, and the query string.

    A parameter may stand in the query or in the body, not in both. Raises Problem 400 for a malformed body, 415 for a
    content type that is not accepted, 422 for a parameter given twice, 503 where a large form finds no room on disk.
    """
    query = _once(request.query_params.multi_items())
    kind = content_type(request.headers)
    if kind == _FORM:
        upload = await _read_form(request)
    elif kind == JSON:
        upload = Upload(None, await _json_object(request))
    elif is_picture(kind):
        upload = Upload(await request.body() or None, {})
    else:
        raise _wrong_type(
            kind, f"{_FORM} with a field {IMAGE_FIELD!r}, an image type, application/octet-stream or {JSON}"
        )
    for name in query:
        if name in upload.fields:
            raise invalid(name, query[name], "is given in the query and in the body; give it once")
    return Upload(upload.image, query | upload.fields)


async def read_json(request: Request) -> Upload:
    """Read a request that is JSON and nothing else. Raises as `read`."""
    kind = content_type(request.headers)
    if kind != JSON:
        raise _wrong_type(kind, f"{JSON} (curl: -H 'Content-Type: {JSON}')")
    return Upload(None, await _json_object(request))


def content_type(headers: Headers) -> str:
    """The media type that the headers tell, without its parameters; empty where they tell none."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_picture(kind: str) -> bool:
    """Whether a body of that media type is taken for a bare picture."""
    return kind in _RAW or kind.startswith("image/")


def _wrong_type(kind: str, accepted: str) -> Problem:
    rule = f"must be {accepted}"
    error = {"field": "Content-Type", "value": kind[:100], "rule": rule}
    return Problem(415, f"Content-Type {kind[:100]!r}: {rule}", [error])


async def _read_form(request: Request) -> Upload:
    try:
        return await _parsed_form(request)
    except OSError as exc:  # from the temporary file that a large part passes through
        log.error("an upload found no room: %s", exc)
        raise Problem(503, "there is no room for this upload now", headers={"Retry-After": "1"}) from exc


async def _parsed_form(request: Request) -> Upload:
    # Starlette turns a malformed form into a 400 that says what is wrong with it.
    async with request.form(max_files=4, max_fields=50) as form:
        image: bytes | None = None
        fields: list[tuple[str, str]] = []
        for name, value in form.multi_items():
            if name == IMAGE_FIELD:
                if image is not None:
                    raise invalid(IMAGE_FIELD, "several", "may be given once")
                if not isinstance(value, UploadFile):
                    raise invalid(IMAGE_FIELD, value, "must be a file, with a file name")
                image = await value.read()
            elif isinstance(value, UploadFile):
                raise invalid(name, value.filename, f"only {IMAGE_FIELD!r} may be a file")
            else:
                fields.append((name, value))
        return Upload(image, _once(fields))


async def _json_object(request: Request) -> dict[str, Any]:
    body = await request.body()
    if len(body) > MAX_JSON_BYTES:
        rule = f"at most {MAX_JSON_BYTES} bytes of JSON are accepted"
        raise Problem(413, f"the body has {len(body)} bytes; {rule}", [{"field": "body", "rule": rule}])
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
        raise Problem(400, "the body is not valid JSON", [{"field": "body", "rule": "must be JSON"}]) from exc
    if not isinstance(value, dict):
        raise Problem(422, "the body must be a JSON object", [{"field": "body", "rule": "must be a JSON object"}])
    return value


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in items:
        if name in fields:
            raise invalid(name, value, "may be given once")
        fields[name] = value
    return fields
