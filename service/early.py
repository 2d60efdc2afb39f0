"""Refusals before a request is parsed: under overload, one that costs hardly anything leaves the machine to others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from service.uploads import RAW, content_type

# Seconds until there should be room for a path's work: of the default model, or of the first of all that has some. None
# where there is room now.
Refusal = Callable[[str, bool], float | None]
_PARAMETER = b"model"
_LARGEST = 65_536  # bytes of a body that is looked at
_PATIENCE = 0.1  # seconds that it may take to come; a slow one goes the usual way


async def refused(refusal: Refusal, scope: Scope, headers: Headers, receive: Receive) -> tuple[float | None, Receive]:
    """Seconds after which to try again, where whatever a request asks for would be refused; else None.

    What asks for the default model is refused as soon as that is full; where a request may name another, all must be.
    Of its body no more is known than whether it has the parameter's name somewhere. Comes with what to receive from
    afterwards.
    """
    path = scope["path"]
    if scope["method"] != "POST" or (seconds := refusal(path, False)) is None:
        return None, receive
    if _PARAMETER in unquote_to_bytes(scope["query_string"]):
        return refusal(path, True), receive
    kind = content_type(headers)
    if kind in RAW or kind.startswith("image/"):
        return seconds, receive
    message = await _first(headers, receive)
    if message is None:
        return refusal(path, True), receive
    body = message.get("body", b"")
    # JSON may spell a name with escapes.
    may_name = message.get("more_body", False) or _PARAMETER in body or ("json" in kind and b"\\" in body)
    return (refusal(path, True) if may_name else seconds), _replayed(message, receive)


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
