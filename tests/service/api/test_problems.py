"""Every exception becomes one JSON shape that helps a client and gives nothing away."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from service.api import problems
from service.errors import (
    BatcherClosedError,
    BrokenImageError,
    DeadlineError,
    FramingError,
    ImageTooLargeError,
    InferenceError,
    Problem,
    QueueFullError,
    RequestTooLargeError,
    UnsupportedImageError,
    invalid,
    printable,
)


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (Problem(418, "tea"), 418),
        (BrokenImageError("torn"), 400),
        (ImageTooLargeError("big"), 413),
        (UnsupportedImageError("text"), 415),
        (FramingError("wide"), 422),
        (QueueFullError(2.0), 429),
        (RequestTooLargeError("9 images"), 413),
        (DeadlineError("30 s"), 504),
        (BatcherClosedError("closed"), 503),
        (InferenceError("graph"), 500),
        (HTTPException(405), 405),
        (RequestValidationError([]), 422),
        (RuntimeError("the password is swordfish"), 500),
    ],
)
def test_each_exception_has_its_status(exc: Exception, status: int):
    assert problems.translate(exc).status == status


@pytest.mark.parametrize("exc", [RuntimeError("swordfish"), KeyError("swordfish"), InferenceError("swordfish")])
def test_internal_text_stays_inside(exc: Exception):
    found = problems.translate(exc)
    assert "swordfish" not in found.detail
    assert found.errors == []


def test_an_image_error_names_the_field_and_the_rule():
    found = problems.translate(BrokenImageError("the PNG image is truncated"))
    assert found.errors == [{"field": "image", "rule": "the PNG image is truncated"}]


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.1, "2"), (59.9, "60")])
def test_retry_after_is_whole_seconds_and_at_least_one(seconds: float, header: str):
    assert problems.translate(QueueFullError(seconds)).headers == {"Retry-After": header}


def test_headers_of_an_http_exception_are_kept():
    assert problems.translate(HTTPException(405, headers={"Allow": "POST"})).headers == {"Allow": "POST"}


def test_memory_that_is_short_is_503_and_may_be_tried_again():
    found = problems.translate(MemoryError("Unable to allocate 3 GiB for an array"))
    assert found.status == 503
    assert found.headers["Retry-After"]
    assert "GiB" not in found.detail


def test_invalid_names_field_value_and_rule():
    found = invalid("count", 99, "at most 64")
    assert found.status == 422
    assert found.errors == [{"field": "count", "value": 99, "rule": "at most 64"}]
    assert found.detail == "count: at most 64"


def test_invalid_with_suggestions_asks_whether_they_were_meant():
    found = invalid("attributes.Smilin", "Smilin", "is unknown", ["Smiling", "Sleeping"])
    assert found.errors[0]["suggestions"] == ["Smiling", "Sleeping"]
    assert "did you mean Smiling or Sleeping?" in found.detail


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (1.5, 1.5),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (b"12345", "5 bytes"),
        ("text", "text"),
        ([1, 2], "[1, 2]"),
        ("x " * 100, "x " * 100),
        ("x " * 101, "x " * 100 + "..."),
        (10**39, 10**39),
        (10**300, "301 characters"),
        ("iVBORw0KGgo/" * 40, "480 characters"),
        ("data:image/png;base64," + "iVBORw0KGgo-" * 40, "502 characters"),
        ("\n".join(["iVBORw0KGgo+" * 6] * 9), "656 characters"),
        (["iVBORw0KGgo/" * 40], "484 characters"),
    ],
)
def test_printable_values_are_short_and_fit_into_json(value: Any, expected: Any):
    assert printable(value) == expected
    json.dumps(printable(value), allow_nan=False)


def test_the_response_is_a_problem_document():
    found = problems.response(Problem(413, "too big", [{"field": "body", "rule": "small"}], {"X-A": "b"}), "id-7")
    assert found.status_code == 413
    assert found.media_type == "application/problem+json"
    assert found.headers["content-type"] == "application/problem+json"
    assert found.headers["x-a"] == "b"
    body = json.loads(found.body)
    assert body.pop("title")
    assert body == {
        "type": "about:blank",
        "status": 413,
        "detail": "too big",
        "request_id": "id-7",
        "errors": [{"field": "body", "rule": "small"}],
    }


def test_a_problem_without_fields_has_no_errors_member():
    assert "errors" not in json.loads(problems.response(Problem(503, "later"), "id").body)


def test_text_that_is_no_unicode_can_still_be_answered():
    found = problems.response(invalid("attributes", "\ud800", "is odd"), "id")
    assert json.loads(found.body)["errors"][0]["value"] == "\ud800"


def test_installed_handlers_cover_every_expected_exception():
    app = FastAPI()
    problems.install(app)
    for kind in (Problem, HTTPException, RequestValidationError, ValidationError, BrokenImageError, QueueFullError):
        assert any(issubclass(kind, handled) for handled in app.exception_handlers)
