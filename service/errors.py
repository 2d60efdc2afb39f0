"""Every exception that a request can end with, free of any web framework.

    Problem                        an HTTP error with a status, a detail and errors by field (RFC 9457)
    ImageError                     a picture that cannot be used; has the status that it is answered with
        BrokenImageError           400
        ImageTooLargeError         413
        UnsupportedImageError      415
        FramingError               422
        UnencodableError           422
    BatcherError                   a graph did not compute the result
        QueueFullError             429, with the seconds to wait
        RequestTooLargeError       413
        DeadlineError              504
        InferenceError             500, or 503 where its cause is a MemoryError or a RuntimeUnavailableError
        BatcherClosedError         503
    RuntimeUnavailableError        what runs a graph cannot be used; at start it ends the process with status 2

`translate` gives the Problem that any of them stands for, and `service.api.problems` the response.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

LONGEST_VALUE = 200
_LARGEST_NUMBER = 10**40  # that is still a number in a problem; larger ones are text, which is shortened
_INTEGER, _NUMBER, _BOOLEAN, _OBJECT, _TEXT = (
    f"must be {kind}" for kind in ("a whole number", "a number", "true or false", "an object", "text")
)
# By pydantic's type of error, whose own words are Python's; the braces take what the error's context has.
_RULES = {
    "missing": "is required",
    "extra_forbidden": "is not a parameter of this call",
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), _INTEGER),
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBER),
    "finite_number": "must be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), _BOOLEAN),
    **dict.fromkeys(("string_type", "string_unicode"), _TEXT),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), _OBJECT),
    "list_type": "must be a list",
    "literal_error": "must be {expected}",
    "greater_than_equal": "must be at least {ge:.16g}",
    "less_than_equal": "must be at most {le:.16g}",
    "greater_than": "must be more than {gt:.16g}",
    "less_than": "must be less than {lt:.16g}",
    "string_pattern_mismatch": "must match {pattern}",
    "too_short": "must have at least {min_length} values",
    "too_long": "must have at most {max_length} values",
}
# Base64, maybe of a picture in a field that takes none; its lines have 64 or 76 characters. Words are shorter.
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{64}")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")


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
    error: dict[str, Any] = {"field": field, "value": printable(value), "rule": rule}
    if suggestions:
        error["suggestions"] = suggestions
    hint = f"; did you mean {' or '.join(suggestions)}?" if suggestions else ""
    return Problem(422, f"{field}: {rule}{hint}", [error])


def busy(rule: str, seconds: float) -> Problem:
    """A 429 that says after how many seconds to try again: whole ones, at least one."""
    wait = str(max(1, math.ceil(seconds)))
    return Problem(429, f"{rule}; try again in {wait} s", headers={"Retry-After": wait})


def rule_of(error: Mapping[str, Any]) -> str:
    """The rule that one of pydantic's errors is about; that of a validator of ours is its own message."""
    template = _RULES.get(error["type"])
    return template.format(**error.get("ctx", {})) if template else error["msg"].removeprefix("Value error, ")


def printable(value: Any) -> Any:
    """A value as a problem may carry it: JSON-safe and short."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < _LARGEST_NUMBER):
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = value if isinstance(value, str) else repr(value)
    if _CONTROLS.search(text, 0, LONGEST_VALUE):
        return f"{len(text)} characters that are no text"  # of a picture, maybe
    if _BASE64.search(text, 0, LONGEST_VALUE):
        return f"{len(text)} characters"
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


class ImageError(ValueError):
    """A picture that cannot be used; the message says why."""

    status = 400


class BrokenImageError(ImageError):
    """Empty, truncated or corrupt."""


class ImageTooLargeError(ImageError):
    """More pixels than allowed."""

    status = 413


class UnsupportedImageError(ImageError):
    """Not a picture, or of a kind that is not accepted."""

    status = 415


class FramingError(ImageError):
    """A sound picture that cannot be used as a framed face."""

    status = 422


class UnencodableError(ImageError):
    """A picture that the requested format cannot hold."""

    status = 422


class BatcherError(Exception):
    """Why a request got no result."""


class QueueFullError(BatcherError):
    """No room now."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; retry in {retry_after:.1f} s")
        self.retry_after = retry_after


class RequestTooLargeError(BatcherError):
    """More images than the whole queue holds."""


class DeadlineError(BatcherError):
    """The time was up."""


class InferenceError(BatcherError):
    """The graph failed on this request's images."""


class BatcherClosedError(BatcherError):
    """Closing, or its worker died."""


class RuntimeUnavailableError(RuntimeError):
    """No inference runtime, or not on the configured device; the message says what to install."""


def translate(exc: Exception) -> Problem:
    """The problem that an exception stands for; one that is not meant for clients becomes a bare 500."""
    match exc:
        case Problem():
            return exc
        case ImageError():
            return Problem(exc.status, str(exc), [{"field": "image", "rule": str(exc)}])
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
        case _:
            return Problem(500, "an unexpected error; the log has it under this request id")
