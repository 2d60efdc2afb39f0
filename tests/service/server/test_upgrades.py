"""Clients that propose HTTP/2 in every request get the answer of HTTP/1.1, on all routes."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.server import connection
from service.settings import Settings
from tests.service import fakes

PROPOSAL = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"
)
PICTURE = fakes.grey(128)
AS_JSON = json.dumps({"image": base64.b64encode(PICTURE).decode(), "framed": True}).encode()
JAVA = """
import java.net.URI;
import java.net.http.*;
import java.nio.file.*;

public class Post {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        HttpRequest.BodyPublisher known = HttpRequest.BodyPublishers.ofFile(Path.of(args[2]));
        HttpRequest.BodyPublisher unknown = HttpRequest.BodyPublishers.fromPublisher(known);
        for (HttpRequest.BodyPublisher body : new HttpRequest.BodyPublisher[] {known, unknown}) {
            HttpRequest.Builder post = HttpRequest.newBuilder(URI.create(args[0])).POST(body);
            HttpRequest request = post.header("Content-Type", args[1]).build();
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
        }
    }
}
"""


@pytest.fixture
def address(settings: Settings) -> Iterator[str]:
    limits = connection.limited(fakes.PATIENCE, 100, lambda _: None)
    with fakes.listening(fakes.application(settings), http=limits, ws="none") as address:
        yield address


def counted(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    parts = [body[start : start + 1000] for start in range(0, len(body), 1000)]
    return b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in [*parts, b""])


def status_of(client: socket.socket) -> int:
    """The status of the next response, which is read to its end."""
    reader = client.makefile("rb")
    status = int(reader.readline().split()[1])
    length = 0
    while (line := reader.readline().lower()) != b"\r\n":
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    reader.read(length)
    return status


@pytest.mark.parametrize("framing", [counted, chunked])
@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/v1/generate", "application/json", b'{"seed": 1}'),
        ("/v1/encode?framed=true", "image/png", PICTURE),
        ("/v1/encode", "application/json", AS_JSON),
        ("/v1/edit?framed=true&attributes=%7B%22Smiling%22%3A1%7D", "image/png", PICTURE),
        ("/v1/sweep?framed=true&attribute=Smiling&steps=3", "image/png", PICTURE),
        ("/v1/verify", "image/png", PICTURE),
    ],
)
def test_the_body_arrives(address: str, path: str, kind: str, body: bytes, framing: Callable[[bytes], bytes]):
    host, port = address.split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n".encode() + PROPOSAL
    with socket.create_connection((host, int(port)), timeout=fakes.PATIENCE) as client:
        for _ in range(2):  # on the same connection
            client.sendall(head + framing(body))
            assert status_of(client) == 200


def test_a_request_that_waits_for_100_gets_it(address: str):
    host, port = address.split(":")
    head = b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    with socket.create_connection((host, int(port)), timeout=fakes.PATIENCE) as client:
        client.sendall(head + PROPOSAL + b"Content-Length: 2\r\n\r\n")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"{}")
        assert status_of(client) == 200


def test_a_body_above_the_limit_is_refused_as_ever(address: str, settings: Settings):
    host, port = address.split(":")
    head = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n" + PROPOSAL
    with socket.create_connection((host, int(port)), timeout=fakes.PATIENCE) as client:
        client.sendall(head + b"Content-Length: %d\r\n\r\n" % (settings.max_body_bytes + 1))
        assert status_of(client) == 413


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("extra", [[], ["-H", "Transfer-Encoding: chunked"]], ids=["content-length", "chunked"])
def test_curl_that_proposes_http_2(address: str, extra: list[str]):
    command = ["curl", "-sS", "--http2", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", *extra]
    posted = ["-H", "Content-Type: application/json", "-d", '{"seed": 1}', f"http://{address}/v1/generate"]
    done = subprocess.run([*command, *posted], capture_output=True, text=True, check=True, timeout=fakes.PATIENCE)
    assert done.stdout == "200 1.1"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="java is not installed")
def test_javas_own_client(address: str, tmp_path: Path):
    source, picture = tmp_path / "Post.java", tmp_path / "a.png"
    source.write_text(JAVA)
    picture.write_bytes(PICTURE)
    command = ["java", str(source), f"http://{address}/v1/encode?framed=true", "image/png", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["200", "200"]
