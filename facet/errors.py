"""Everything that can go wrong with a call, and the boundary where httpx's errors become ours.

FacetError
+-- SetupError            the service cannot run in this process: an extra, a bundle or a setting
+-- TransportError        no answer: a broken address, a time limit, a broken protocol
|   +-- ConnectError      no connection, or one that broke; calls change nothing, so trying again is safe
+-- UnexpectedAnswer      an answer that Facet does not give; something else may be listening there
+-- ServiceError          the service says no: status, detail, errors, request_id
    +-- RequestError      4xx: what was sent breaks a rule; `errors` names field, value and rule
    |   +-- ModelNotFound 404
    |   +-- RateLimited   429: the queue is full; retry_after
    +-- Unavailable       503: starting or stopping; retry_after
    +-- TimedOut          408, 504: the time for the request ran out
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx


class FacetError(Exception):
    """Any error of this package."""


class SetupError(FacetError):
    """The service cannot run in this process; the message says what is missing."""


class TransportError(FacetError):
    """No answer came; `__cause__` is httpx's error."""


class ConnectError(TransportError):
    """No connection could be made, or it broke before the answer."""


class UnexpectedAnswer(FacetError):
    """An answer that is none of Facet's."""


class ServiceError(FacetError):
    """The service answered with an error.

    `errors` lists what is wrong, each with `field`, `rule`, usually `value` and sometimes `suggestions`; the log of the
    service knows the `request_id`. `retry_after` is in seconds, None where the service does not say.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        errors: list[dict[str, Any]] | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{detail} (status {status}, request {request_id})" if request_id else f"{detail} ({status})")
        self.status, self.detail, self.errors = status, detail, errors or []
        self.request_id, self.retry_after = request_id, retry_after


class RequestError(ServiceError):
    """What was sent breaks a rule (4xx)."""


class ModelNotFound(RequestError):
    """No such model or path (404)."""


class RateLimited(RequestError):
    """The queue of the service is full (429)."""


class Unavailable(ServiceError):
    """The service is starting or stopping (503)."""


class TimedOut(ServiceError):
    """The time for the request ran out (408, 504)."""


_KINDS: dict[int, type[ServiceError]] = {
    404: ModelNotFound,
    408: TimedOut,
    429: RateLimited,
    503: Unavailable,
    504: TimedOut,
}


def from_response(response: httpx.Response) -> ServiceError:
    """The error that an answer other than 2xx stands for, whether Facet or something before it wrote it."""
    body = _problem(response)
    return service_error(
        response.status_code,
        str(body.get("detail") or response.reason_phrase or "the service answered with an error"),
        body.get("errors"),
        body.get("request_id") or response.headers.get("x-request-id"),
        response.headers.get("retry-after", ""),
    )


def service_error(
    status: int, detail: str, errors: list[dict[str, Any]] | None, request_id: str | None, retry_after: str
) -> ServiceError:
    """The error of the class for its status; `retry_after` as the header of that name has it."""
    kind = _KINDS.get(status, RequestError if 400 <= status < 500 else ServiceError)
    return kind(status, detail, errors, request_id, _seconds(retry_after))


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:  # UnicodeDecodeError is one
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the errors of httpx into ours; `url` is where the service should be."""
    try:
        yield
    except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout) as exc:
        raise ConnectError(f"{url}: {_reason(exc)}") from exc
    except httpx.TimeoutException as exc:
        raise TransportError(f"{url}: no answer in time ({type(exc).__name__})") from exc
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise TransportError(f"{url}: {_reason(exc)}") from exc


def _reason(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
