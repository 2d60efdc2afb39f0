"""Every error as RFC 9457 `application/problem+json`: it names the field, the value and the rule."""

from __future__ import annotations

import http
import json
import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from service import errors
from service.errors import BatcherError, ImageError, Problem
from service.pipeline.parameters import from_validation

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


def translate(exc: Exception) -> Problem:
    """Any exception as a problem; what is not meant for clients becomes a bare 500."""
    match exc:
        case RequestValidationError() | ValidationError():
            return from_validation(list(exc.errors()))
        case HTTPException():
            headers = dict(exc.headers or {})
            if headers.get("Allow") == "GET":
                headers["Allow"] = "GET, HEAD"  # service.server.head
            return Problem(exc.status_code, str(exc.detail), headers=headers)
        case _:
            return errors.translate(exc)


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
        return response(answered(exc), request.state.context.request_id)

    # Handlers are found by base class, so the families suffice.
    for kind in (Problem, ImageError, BatcherError, RequestValidationError, ValidationError, HTTPException):
        app.add_exception_handler(kind, answer)
