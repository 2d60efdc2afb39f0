"""Redirects that hold behind a proxy which strips a prefix of the path."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RelativeRedirects:
    """Makes the framework's redirects of a trailing slash relative (RFC 9110, section 10.2.2).

    The framework builds them from the `Host` header and the path that it received. A proxy may have changed both, and
    the scheme.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_relative(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 307:
                MutableHeaders(scope=message)["location"] = without_slash(scope)
            await send(message)

        await self._app(scope, receive, send_relative if scope["type"] == "http" else send)


def without_slash(scope: Scope) -> str:
    """The reference from a path that ends in slashes to the same path without them, with its query."""
    path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
    plain = path.rstrip("/")
    return "../" * (len(path) - len(plain)) + plain.rpartition("/")[2] + (f"?{query}" if query else "")
