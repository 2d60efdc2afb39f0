"""Bodies of requests, read without an application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from service.api import uploads
from service.api.uploads import Upload
from service.errors import Problem


def read(
    content_type: str | None,
    body: bytes,
    query: dict[str, Any] | list[tuple[str, Any]] | None = None,
    encoding: str | None = None,
    how: Callable[[Request], Awaitable[Upload]] = uploads.read,
    transfer: str | None = None,
) -> Upload:
    told = {b"content-type": content_type, b"content-encoding": encoding, b"transfer-encoding": transfer}
    headers = [(name, value.encode()) for name, value in told.items() if value is not None]
    scope = {
        "type": "http",
        "app": None,
        "method": "POST",
        "path": "/",
        "query_string": urlencode(query or {}).encode(),
        "headers": headers,
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return asyncio.run(how(Request(scope, receive)))


def form(
    files: list[tuple[str, tuple[str, bytes]]] | None = None, fields: dict[str, Any] | None = None
) -> tuple[str, bytes]:
    request = httpx.Request("POST", "http://test", files=files or [("x", (None, b""))], data=fields)
    return request.headers["content-type"], request.read()


def part(disposition: str, data: bytes, kind: str | None = None) -> tuple[str, bytes]:
    """A form of one part."""
    head = f"Content-Disposition: {disposition}\r\n" + (f"Content-Type: {kind}\r\n" if kind else "")
    return "multipart/form-data; boundary=x", b"--x\r\n%b\r\n%b\r\n--x--\r\n" % (head.encode(), data)


def image(data: bytes = b"pixels") -> tuple[str, tuple[str, bytes]]:
    return ("image", ("face.png", data))


def refusal(status: int, content_type: str | None, body: bytes, query: Any = None) -> dict[str, Any]:
    with pytest.raises(Problem) as caught:
        read(content_type, body, query)
    assert caught.value.status == status
    return caught.value.errors[0]


class Wanted(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 1
