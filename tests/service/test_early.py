"""What is refused before it is parsed, and what is not, since it may ask for a model that has room."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Message

from service.early import refused

DEFAULT_FULL, ALL_FULL = 3.0, 7.0


def ask(
    body: bytes = b"{}",
    kind: str = "application/json",
    query: bytes = b"",
    method: str = "POST",
    full: tuple[bool, bool] = (True, False),
    length: int | None = None,
    messages: list[Message] | None = None,
) -> tuple[float | None, list[Message]]:
    """The seconds, and what is received afterwards; `full` says if the default model is, and if all are."""
    scope = {"method": method, "path": "/v1/edit", "query_string": query}
    headers = Headers({"content-type": kind, "content-length": str(len(body) if length is None else length)})
    left = messages if messages is not None else [{"type": "http.request", "body": body, "more_body": False}]
    left = list(left)

    async def receive() -> Message:
        if not left:
            await asyncio.sleep(60)
        return left.pop(0)

    def refusal(path: str, any_model: bool, pictured: bool) -> float | None:
        assert path == "/v1/edit"
        assert pictured or kind == "application/json"
        if any_model:
            return ALL_FULL if full[1] else None
        return DEFAULT_FULL if full[0] else None

    async def story() -> tuple[float | None, list[Message]]:
        count = len(left)
        seconds, again = await refused(refusal, scope, headers, receive)
        return seconds, [await again() for _ in range(count)]

    return asyncio.run(story())


def test_with_room_nothing_is_looked_at():
    seconds, received = ask(full=(False, False))
    assert seconds is None
    assert received[0]["body"] == b"{}"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_only_work_is_refused(method: str):
    assert ask(method=method)[0] is None


REQUESTS: list[tuple[dict[str, Any], bool]] = [
    ({"body": b'{"seed": 1}'}, False),
    ({"body": b'{"seed": 1, "model": "other"}'}, True),
    ({"body": b'{"\\u006dodel": "other"}'}, True),
    ({"kind": "image/jpeg", "body": b"...model..."}, False),  # a picture names nothing
    ({"kind": "application/octet-stream; x=1"}, False),
    ({"kind": "image/jpeg", "query": b"model=other"}, True),
    ({"kind": "image/jpeg", "query": b"m%6fdel=other"}, True),
    ({"kind": "multipart/form-data; boundary=x", "body": b'name="image"\\'}, False),
    ({"kind": "multipart/form-data; boundary=x", "body": b'name="model"'}, True),
    ({"length": 10**6}, True),  # too large to look at
    ({"messages": [{"type": "http.request", "body": b"{", "more_body": True}]}, True),
]


@pytest.mark.parametrize(("request_", "may_name"), REQUESTS)
def test_whoever_may_name_another_model_is_refused_only_where_all_are_full(request_: dict[str, Any], may_name: bool):
    assert ask(**request_)[0] == (None if may_name else DEFAULT_FULL)
    assert ask(**request_, full=(True, True))[0] == (ALL_FULL if may_name else DEFAULT_FULL)


def test_what_was_looked_at_is_received_again():
    parts = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.request", "body": b"}"}]
    seconds, received = ask(messages=parts)
    assert seconds is None
    assert received == parts


def test_a_body_that_does_not_come_goes_the_usual_way():
    seconds, received = ask(messages=[], length=2)
    assert (seconds, received) == (None, [])
