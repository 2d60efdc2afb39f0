"""A parser of requests that ignores proposals to change the protocol, as a server may (RFC 9110, section 7.8).

httptools takes what follows the head of such a request for the other protocol and drops its body. Some clients propose
another protocol in every request: Java's `HttpClient` does, and `curl --http2`.
"""

from __future__ import annotations

from typing import Any

import httptools

_FRAMING = (b"content-length", b"transfer-encoding")


class RequestParser:
    """httptools' parser of requests for `connection`, which has the methods and the `headers` of uvicorn's protocol.

    Where httptools stops, a new parser continues. It first reads a head of the same framing without the proposal, which
    the connection does not see.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.on_url, self.on_header, self.on_body = connection.on_url, connection.on_header, connection.on_body
        self._parser = _opened(self)

    def feed_data(self, data: bytes) -> None:
        """Parse the next bytes of the connection. Raises httptools.HttpParserError."""
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as proposal:
                (consumed,) = proposal.args
                data = self._framing() + data[consumed:]
                self._parser = _opened(_Continued(self))

    def close(self) -> None:
        """The connection is closed. Drops httptools' parser, which refers back to this one."""
        self._parser = None

    def get_http_version(self) -> str:
        return self._parser.get_http_version()

    def get_method(self) -> bytes:
        return self._parser.get_method()

    def should_keep_alive(self) -> bool:
        return self._parser.should_keep_alive()

    def should_upgrade(self) -> bool:
        """False, since the request is handled as any other."""
        return False

    def on_message_begin(self) -> None:
        self._connection.on_message_begin()

    def on_headers_complete(self) -> None:
        if self._parser.get_method() == b"CONNECT":
            raise ValueError("CONNECT has no body and is followed by a tunnel")  # becomes an HttpParserError
        self._connection.on_headers_complete()

    def on_message_complete(self) -> None:
        if not self._parser.should_upgrade():  # else the body is still to come
            self._connection.on_message_complete()

    def _framing(self) -> bytes:
        """The head of a request whose body ends where that of the present one does."""
        fields = [name + b": " + value for name, value in self._connection.headers if name in _FRAMING]
        version = self._parser.get_http_version().encode()
        return b"\r\n".join([self._parser.get_method() + b" / HTTP/" + version, *fields, b"", b""])


class _Continued:
    """The callbacks of a parser whose first head is hidden; `parser` gets the others."""

    def __init__(self, parser: RequestParser) -> None:
        self._parser, self._hidden = parser, True
        self.on_body, self.on_message_complete = parser.on_body, parser.on_message_complete

    def on_message_begin(self) -> None:
        if not self._hidden:
            self._parser.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._hidden:
            self._parser.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._hidden:
            self._parser.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._hidden:
            self._hidden = False
        else:
            self._parser.on_headers_complete()


def _opened(callbacks: Any) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(callbacks)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own: it answers the first request
    return parser
