"""How a picture and its parameters arrive: as a form, as raw bytes, or as JSON with the picture in base64."""

from __future__ import annotations

import asyncio
import binascii
import json
import logging
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from service.errors import Problem, invalid
from service.pipeline import parameters
from service.pipeline.parameters import Parameters

log = logging.getLogger(__name__)

IMAGE_FIELD = "image"
# JSON is parsed on the event loop; 64 latents take some 200 kB. A picture in it does not count.
MAX_JSON_BYTES = 1_000_000
_MAX_PARTS, _MAX_PART_BYTES = 50, 1_048_576  # of a form, without the picture
_FORM = "multipart/form-data"
JSON = "application/json"
# The last is what curl --data-binary says unless it is told otherwise.
_RAW = ("application/octet-stream", "application/x-www-form-urlencoded", "")
_UNCOMPRESSED = {"Content-Encoding": "left out", "Transfer-Encoding": "chunked or left out"}


@dataclass(frozen=True)
class Upload:
    """A request's picture, if it has one, and its parameters by name, not yet validated."""

    image: bytes | None
    fields: dict[str, Any]

    def parameters(self, schema: type[Parameters]) -> Parameters:
        """The parameters checked against `schema`. Raises a 422 Problem."""
        return parameters.parse(schema, self.fields)


async def read(request: Request) -> Upload:
    """Read the body by its content type, and the query string.

    A parameter may stand in the query or in the body, not in both. Raises Problem 400 for a malformed body, 413 for too
    large a parameter, 415 for a content type or an encoding that is not accepted, 422 for a parameter given twice, 503
    where a large form finds no room on disk.
    """
    _refuse_encoding(request.headers)
    query = _once(request.query_params.multi_items())
    kind = content_type(request.headers)
    if kind == _FORM:
        upload = await _read_form(request)
    elif kind == JSON:
        upload = await _read_json(request)
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
    """Read a request that is JSON and nothing else, and has no picture. Raises as `read`."""
    _refuse_encoding(request.headers)
    kind = content_type(request.headers)
    if kind != JSON:
        raise _wrong_type(kind, f"{JSON} (curl: -H 'Content-Type: {JSON}')")
    upload = await _read_json(request)
    if upload.image is not None:
        raise invalid(IMAGE_FIELD, upload.image, "this call takes no picture")
    return upload


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


def _refuse_encoding(headers: Headers) -> None:
    """Raises a 415 Problem for a compressed body (RFC 9110, section 15.5.16)."""
    if found := compression_of(headers):
        name, coding = found[0], found[1].lower()
        rule = f"must be {_UNCOMPRESSED[name]}: compressed bodies are not accepted"
        error = {"field": name, "value": coding[:100], "rule": rule}
        raise Problem(415, f"{name} {coding[:100]!r}: {rule}", [error], headers={"Accept-Encoding": "identity"})


def compression_of(headers: Headers) -> tuple[str, str] | None:
    """The header that says that the body, or its transfer, is compressed, and its value; None where neither is."""
    for name, accepted in (("Content-Encoding", ("", "identity")), ("Transfer-Encoding", ("", "chunked"))):
        coding = headers.get(name, "").strip()
        if coding.lower() not in accepted:
            return name, coding
    return None


class _FormParser(MultiPartParser):
    """Takes the picture's part for a file even if it has no name, and reads names in `filename*` (RFC 5987)."""

    # As RFC 5987 has it: a charset, a language, and the name, percent-encoded.
    _EXTENDED_NAME = re.compile(rb";\s*filename\*\s*=\s*([\w.-]+)'[^']*'([^;\s\"]+)", re.IGNORECASE)

    def on_headers_finished(self) -> None:
        part = self._current_part
        disposition = part.content_disposition or b""
        _, options = parse_options_header(disposition)
        if b"filename" not in options:
            if found := self._EXTENDED_NAME.search(disposition):
                name = unquote_to_bytes(found[2]).decode(_charset(found[1]), "replace")
                part.content_disposition = disposition + b'; filename="%s"' % re.sub(r'["\\]', "_", name).encode()
            elif options.get(b"name") == IMAGE_FIELD.encode():
                part.content_disposition = disposition + b'; filename=""'
        super().on_headers_finished()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._current_part
        if part.file is None and len(part.data) + end - start > self.max_part_size:
            raise _too_large(part.field_name)
        super().on_part_data(data, start, end)


def _charset(name: bytes) -> str:
    """Of the two that RFC 5987 has, and UTF-8 for any other."""
    return "latin-1" if name.lower() == b"iso-8859-1" else "utf-8"


def _too_large(field: str) -> Problem:
    rule = f"at most {_MAX_PART_BYTES} bytes are accepted; a picture is the part {IMAGE_FIELD!r}, with a file name"
    return Problem(413, f"{field[:100]}: {rule}", [{"field": field[:100], "rule": rule}])


async def _read_form(request: Request) -> Upload:
    parser = _FormParser(
        request.headers, request.stream(), max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=_MAX_PART_BYTES
    )
    try:
        form = await parser.parse()
        try:
            return await _upload_of(form)
        finally:
            await form.close()
    except MultiPartException as exc:
        raise _malformed(exc.message) from exc
    except OSError as exc:  # from the temporary file that a large part passes through
        log.error("an upload found no room: %s", exc)
        raise Problem(503, "there is no room for this upload now", headers={"Retry-After": "1"}) from exc


def _malformed(message: str) -> Problem:
    """What is wrong with a form, by the message of its parser."""
    field, rule = "body", f"must be well-formed {_FORM}"
    if "boundary" in message:
        field, rule = "Content-Type", f"must name the boundary between the parts: {_FORM}; boundary=..."
    elif "Content-Disposition" in message:
        rule = "each part must have a name: Content-Disposition: form-data; name=..."
    elif "Too many" in message:
        rule = f"at most {_MAX_PARTS} parts are accepted"
    return Problem(400, f"{field}: {rule}", [{"field": field, "rule": rule}])


async def _upload_of(form: FormData) -> Upload:
    image: bytes | None = None
    fields: list[tuple[str, str]] = []
    for name, value in form.multi_items():
        if name == IMAGE_FIELD:
            if image is not None:
                raise invalid(IMAGE_FIELD, "several", "may be given once")
            image = await _picture_of(value)
        elif text := await _text_of(name, value) if isinstance(value, UploadFile) else value:
            fields.append((name, text))  # pages send empty fields, too
    return Upload(image, _once(fields))


async def _picture_of(file: UploadFile) -> bytes | None:
    """The picture; None for the empty file without a name by which browsers say that none was chosen."""
    if file.filename:
        return await file.read()
    if file.size:
        raise invalid(IMAGE_FIELD, f"{file.size} bytes", f"the part {IMAGE_FIELD!r} needs a file name")
    return None


async def _text_of(name: str, file: UploadFile) -> str:
    """A parameter that comes as a file, as browsers and Swagger UI send a `Blob`."""
    kind = content_type(file.headers)
    if kind not in (JSON, "text/plain", "application/octet-stream", ""):
        rule = f"only {IMAGE_FIELD!r} may be a file of that type; a parameter is text or {JSON}"
        raise invalid(name, file.filename, rule)
    if file.size > _MAX_PART_BYTES:
        raise _too_large(name)
    try:
        return (await file.read()).decode("utf-8-sig")
    except UnicodeDecodeError:
        rule = f"must be text in UTF-8; a picture is the part {IMAGE_FIELD!r}"
        raise invalid(name, f"{file.size} bytes", rule) from None


async def _read_json(request: Request) -> Upload:
    """The fields of a JSON object; the picture among them, in base64, may be as large as any body."""
    body = await request.body()
    picture, rest = _cut_picture(body) if len(body) > MAX_JSON_BYTES else (None, body)
    if len(rest) > MAX_JSON_BYTES:
        raise _too_much_json(len(body))
    fields = _loaded(rest)
    if not isinstance(fields, dict):
        raise Problem(422, "the body must be a JSON object", [{"field": "body", "rule": "must be a JSON object"}])
    image = fields.pop(IMAGE_FIELD, None)
    if picture is not None:
        if image != "":  # it was another's value
            raise _too_much_json(len(body))
        image = _loaded(picture)
    if image is None:
        return Upload(None, fields)
    # A megabyte of base64 takes 2 ms.
    return Upload(await asyncio.to_thread(_from_base64, image) if picture else _from_base64(image), fields)


# Between its quotes base64 has none, not even escaped.
_PICTURE_IN_JSON = re.compile(rb'"%s"\s*:\s*"' % IMAGE_FIELD.encode())


def _cut_picture(body: bytes) -> tuple[bytes | None, bytes]:
    """The first string in JSON that is a picture's, with its quotes, and the JSON with an empty one instead."""
    begin = _PICTURE_IN_JSON.search(body)
    end = body.find(b'"', begin.end()) if begin else -1
    if end < 0:
        return None, body
    return body[begin.end() - 1 : end + 1], body[: begin.end()] + body[end:]


def _loaded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:  # UnicodeDecodeError is a ValueError
        raise Problem(400, "the body is not valid JSON", [{"field": "body", "rule": "must be JSON"}]) from exc


def _too_much_json(size: int) -> Problem:
    rule = f"at most {MAX_JSON_BYTES} bytes of JSON are accepted, beside the picture in {IMAGE_FIELD!r}"
    return Problem(413, f"the body has {size} bytes; {rule}", [{"field": "body", "rule": rule}])


_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
# What a URL may hold percent-encoded of base64.
_ENCODED = {"%2B": "+", "%2b": "+", "%2F": "/", "%2f": "/", "%3D": "=", "%3d": "="}
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def _from_base64(value: Any) -> bytes:
    """The picture in a `data:` URL, or in bare base64 of either alphabet. Raises a 422 Problem."""
    if not isinstance(value, str):
        raise invalid(IMAGE_FIELD, None, "must be text: base64, or a data: URL with base64")
    text = value
    if head := _DATA_URL.match(value):
        text = value[head.end() :]
        for code, character in _ENCODED.items():
            text = text.replace(code, character)
    try:
        text = text.encode("ascii").translate(_URL_SAFE, b" \t\r\n").rstrip(b"=")
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except ValueError:  # UnicodeEncodeError and binascii.Error are
        raise invalid(IMAGE_FIELD, f"{len(value)} characters", "must be base64, or a data: URL with base64") from None


def _once(items: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in items:
        if name in fields:
            raise invalid(name, value, "may be given once")
        fields[name] = value
    return fields
