"""Refusals before a request is parsed: under overload, one that costs hardly anything leaves the machine to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from service.uploads import JSON, content_type, is_picture

# Seconds until there should be room for a path's work: of the default model, or of the first of all that has some; on a
# picture, or without one. None where there is room now.
Refusal = Callable[[str, bool, bool], float | None]
_PARAMETER = b"model"
_LARGEST = 65_536  # bytes of a body that is looked at
_PATIENCE = 0.1  # seconds that it may take to come; a slow one goes the usual way


async def refused(refusal: Refusal, scope: Scope, headers: Headers, receive: Receive) -> tuple[float | None, Receive]:
    """Seconds after which to try again, where whatever a request asks for would be refused; else None.

    Comes with what to receive from afterwards, since it may have looked at the body.
    """
    if not in_question(refusal, scope):
        return None, receive
    # A bare picture names nothing.
    looks = not (_named(scope) or is_picture(content_type(headers)))
    message = await _first(headers, receive) if looks else None
    body = None if message is None or message.get("more_body", False) else message.get("body", b"")
    seconds = seconds_to_wait(refusal, scope, headers, body)
    return seconds, receive if message is None else _replayed(message, receive)


def in_question(refusal: Refusal, scope: Scope) -> bool:
    """Whether a request may be refused early at all: it asks for work, and the default model has no room."""
    return scope["method"] == "POST" and refusal(scope["path"], False, True) is not None


def seconds_to_wait(refusal: Refusal, scope: Scope, headers: Headers, body: bytes | None) -> float | None:
    """`refused` for one in question, with its whole body, or None where that is not at hand.

    What asks for the default model is refused as soon as that is full; where a request may name another, all must be.
    Of its body no more is known than whether it has the parameter's name somewhere.
    """
    kind = content_type(headers)
    may_name = _named(scope)
    if not (may_name or is_picture(kind)):
        # JSON may spell a name with escapes.
        may_name = body is None or _PARAMETER in body or ("json" in kind and b"\\" in body)
    return refusal(scope["path"], may_name, kind != JSON)


def _named(scope: Scope) -> bool:
    """Whether the query may name a model."""
    return _PARAMETER in unquote_to_bytes(scope["query_string"])


async def _first(headers: Headers, receive: Receive) -> Message | None:
    """The first part of a small body, if it is there or comes at once."""
    promised = headers.get("content-length", "")
    if not promised.isdigit() or int(promised) > _LARGEST:
        return None
    try:
        async with asyncio.timeout(_PATIENCE):
            return await receive()
    except TimeoutError:
        return None


def _replayed(message: Message, receive: Receive) -> Receive:
    """Gives `message` once more, and then what follows."""
    left = [message]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
