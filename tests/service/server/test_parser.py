"""Requests that propose another protocol are read as any other request."""

from __future__ import annotations

import httptools
import pytest

from service.server.parser import RequestParser

PROPOSAL = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
BODY = b'{"seed": 1}'
COUNTED = b"POST /a HTTP/1.1\r\n" + PROPOSAL + b"Content-Length: 11\r\n\r\n" + BODY
CHUNKED = (
    b"POST /a HTTP/1.1\r\n"
    + PROPOSAL
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + (b"4\r\n" + BODY[:4] + b"\r\n7;x=y\r\n" + BODY[4:] + b"\r\n0\r\nTrailer: z\r\n\r\n")
)
BARE = b"GET /a HTTP/1.1\r\n" + PROPOSAL + b"\r\n"
PLAIN = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"


class Connection:
    """Collects (method, URL, headers, body) of each request that is complete."""

    def __init__(self) -> None:
        self.requests: list[tuple[bytes, bytes, list[bytes], bytes]] = []
        self.parser = RequestParser(self)

    def on_message_begin(self) -> None:
        self.url, self.headers, self.body, self.heads = b"", [], b"", 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.heads += 1
        self.method, self.names = self.parser.get_method(), [name for name, _ in self.headers]
        assert self.parser.get_http_version() == "1.1"
        assert not self.parser.should_upgrade()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        assert self.heads == 1
        self.requests.append((self.method, self.url, self.names, self.body))


def parsed(*parts: bytes) -> list[tuple[bytes, bytes, list[bytes], bytes]]:
    connection = Connection()
    for part in parts:
        connection.parser.feed_data(part)
    return connection.requests


@pytest.mark.parametrize(
    ("request_", "method", "body"),
    [(COUNTED, b"POST", BODY), (CHUNKED, b"POST", BODY), (BARE, b"GET", b"")],
    ids=["content-length", "chunked", "no body"],
)
def test_a_body_behind_a_proposal_is_read(request_: bytes, method: bytes, body: bytes):
    (found,) = parsed(request_)
    assert (found[0], found[1], found[3]) == (method, b"/a", body)
    assert found[2][:4] == [b"host", b"connection", b"upgrade", b"http2-settings"]


@pytest.mark.parametrize("request_", [COUNTED, CHUNKED, BARE], ids=["content-length", "chunked", "no body"])
def test_where_the_parts_end_does_not_matter(request_: bytes):
    whole = parsed(request_)
    for cut in range(1, len(request_)):
        assert parsed(request_[:cut], request_[cut:]) == whole
    assert parsed(*(request_[place : place + 1] for place in range(len(request_)))) == whole


def test_requests_behind_one_another_are_all_read():
    both = [COUNTED, PLAIN, CHUNKED, BARE, COUNTED, PLAIN]
    expected = [parsed(request_)[0] for request_ in both]
    assert parsed(b"".join(both)) == expected
    assert parsed(*both) == expected


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 11\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 11\r\nContent-Length: 12\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: x\r\n",
    ],
)
def test_a_proposal_does_not_make_ambiguous_framing_valid(framing: bytes):
    with pytest.raises(httptools.HttpParserError):
        parsed(b"POST /a HTTP/1.1\r\n" + PROPOSAL + framing + b"\r\n" + BODY)


def test_a_tunnel_is_refused():
    with pytest.raises(httptools.HttpParserError):
        parsed(b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n")
