"""Every error as RFC 9457 `application/problem+json`: it names the field, the value and the rule."""

from __future__ import annotations

import http
import json
import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from service.batcher import (
    BatcherClosedError,
    BatcherError,
    DeadlineError,
    InferenceError,
    QueueFullError,
    RequestTooLargeError,
)
from service.images import ImageError
from service.runtime import RuntimeUnavailableError
from service.schemas import ATTRIBUTE_FORMS

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_LONGEST_VALUE = 200
_MOST_ERRORS = 20
# FastAPI's word for where it looked, and the tags of a union: parts of a location that no client wrote.
_NOT_FIELDS = {"body", "query", "path", *ATTRIBUTE_FORMS}


class Problem(Exception):
    """An error that a client can understand.

    `errors` lists what is wrong, each with `field`, `rule`, usually `value`, and sometimes `suggestions`.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.headers = status, detail, errors or [], headers or {}


def invalid(field: str, value: Any, rule: str, suggestions: list[str] | None = None) -> Problem:
    """A 422 about one field."""
    error: dict[str, Any] = {"field": field, "value": shown(value), "rule": rule}
    if suggestions:
        error["suggestions"] = suggestions
    hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
    return Problem(422, f"{field}: {rule}{hint}", [error])


def busy(rule: str, seconds: float) -> Problem:
    """A 429 that says after how many seconds to try again: whole ones, at least one."""
    wait = str(max(1, math.ceil(seconds)))
    return Problem(429, f"{rule}; try again in {wait} s", headers={"Retry-After": wait})


def shown(value: Any) -> Any:
    """A value as a problem may carry it: JSON-safe and short."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def from_validation(errors: list[Any]) -> Problem:
    """Pydantic's errors as one 422."""
    listed = []
    for error in errors[:_MOST_ERRORS]:
        location = [str(part) for part in error["loc"] if part not in _NOT_FIELDS]
        missing = error["type"] == "missing"
        listed.append(
            {
                "field": ".".join(location)[:_LONGEST_VALUE] or "body",
                "rule": "is required" if missing else _rule(error["msg"]),
            }
            | ({} if missing else {"value": shown(error.get("input"))})
        )
    if len(errors) > _MOST_ERRORS:
        listed.append({"field": "body", "rule": f"{len(errors) - _MOST_ERRORS} more errors"})
    detail = "; ".join(f"{error['field']}: {error['rule']}" for error in listed[:3])
    return Problem(422, detail, listed)


def _rule(message: str) -> str:
    return message.removeprefix("Value error, ")


def translate(exc: Exception) -> Problem:
    """Any exception as a problem; what is not meant for clients becomes a bare 500."""
    match exc:
        case Problem():
            return exc
        case ImageError():
            return Problem(exc.status, str(exc), [{"field": "image", "rule": str(exc)}])
        case RequestValidationError() | ValidationError():
            return from_validation(list(exc.errors()))
        case QueueFullError():
            return busy("the queue is full", exc.retry_after)
        case RequestTooLargeError():
            return Problem(413, str(exc))
        case DeadlineError():
            return Problem(504, str(exc))
        case BatcherClosedError():
            return Problem(503, "the service is shutting down or reloading this model", headers={"Retry-After": "1"})
        case InferenceError() if isinstance(exc.__cause__, MemoryError):
            return Problem(503, "there is not enough memory for this now", headers={"Retry-After": "1"})
        case InferenceError() if isinstance(exc.__cause__, RuntimeUnavailableError):
            return Problem(503, "what runs this model cannot be used just now", headers={"Retry-After": "1"})
        case InferenceError():
            return Problem(500, "the model failed on this input")
        case MemoryError():
            return Problem(503, "there is not enough memory for this now", headers={"Retry-After": "1"})
        case HTTPException():
            return Problem(exc.status_code, str(exc.detail), headers=dict(exc.headers or {}))
        case _:
            return Problem(500, "an unexpected error; the log has it under this request id")


def answered(exc: Exception) -> Problem:
    """`translate`, and a line in the log where the fault is ours."""
    problem = translate(exc)
    if problem.status == 500:
        # A batch that fails is logged with its stack when it does; here is whose request was in it.
        log.error("the request failed: %s", exc, exc_info=None if isinstance(exc, BatcherError) else exc)
    return problem


def response(problem: Problem, request_id: str) -> Response:
    """The problem as an HTTP response."""
    body = {
        "type": "about:blank",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id,
    }
    if problem.errors:
        body["errors"] = problem.errors
    content = json.dumps(body, allow_nan=False, ensure_ascii=True)
    return Response(content, problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every exception that reaches the application with a problem."""

    async def answer(request: Request, exc: Exception) -> Response:
        return response(answered(exc), request.state.call.request_id)

    # Handlers are found by base class, so the families suffice.
    for kind in (Problem, ImageError, BatcherError, RequestValidationError, ValidationError, HTTPException):
        app.add_exception_handler(kind, answer)
