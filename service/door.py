"""Refusals at the connection: under overload, most of what one costs is the way into the application and back."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from service import logs
from service.calls import Call, identifier
from service.early import Refusal, in_question, seconds_to_wait
from service.metrics import Metrics


class Door:
    """Says whom there is no room for, as the application itself would, by the head and what came together with it.

    Whatever it lets in is the application's to refuse. A refusal here takes 18 us of processor time, and 49 there.
    """

    def __init__(self, refusal: Refusal, metrics: Metrics, timeout: float) -> None:
        self._refusal, self._metrics, self._timeout = refusal, metrics, timeout

    def is_narrow(self, scope: Scope) -> bool:
        """Whether a request may have to be refused: what it asks for usually has no room now."""
        return in_question(self._refusal, scope)

    def refuse(self, scope: Scope, body: bytes | None) -> tuple[list[tuple[bytes, bytes]], bytes] | None:
        """Headers and body of the 429 for a request, whose body is None where it has not come; None to let it in.

        A page of another origin is let in: whether it may read the answer, the application knows.
        """
        headers = Headers(scope=scope)
        if "origin" in headers or (seconds := seconds_to_wait(self._refusal, scope, headers, body)) is None:
            return None
        call = Call(identifier(headers), self._metrics, self._timeout)
        token = logs.request.set(call.identity)
        try:
            return call.refuse(scope["method"], scope["path"], seconds)
        finally:
            logs.request.reset(token)
