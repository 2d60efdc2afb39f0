"""Refusals at the connection, with the real application behind a socket: its own answers, and nobody else's."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import connection
from service.bundle import Manifest
from service.door import Door
from service.runtime import FakeRuntime
from service.settings import Settings
from tests.service.fakes import PATIENCE, HeldRuntime, application, fields, listening, problem, rewrite_manifest, until

BODY = json.dumps({"attributes": {"Smiling": 1.0}, "seed": 1}).encode()


def head(length: int, path: bytes = b"/v1/generate", kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    lines = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n"
    return lines % (path, kind, length, more)


HEAD = head(len(BODY))


@dataclass
class Crowd:
    """A service whose default model is full until `release`; `client` has one connection, `at_the_door` counts what is
    refused there.
    """

    client: httpx.Client
    address: tuple[str, int]
    release: Callable[[], None]
    at_the_door: list[dict[str, Any]]
    protocols: list[connection.GuardedProtocol]

    def generate(self, body: bytes = BODY, **headers: str) -> httpx.Response:
        return self.client.post("/v1/generate", content=body, headers={"Content-Type": "application/json"} | headers)

    def metric(self, line: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(text.rsplit(" ", 1)[1]) for text in lines if text.startswith(line))


@contextmanager
def crowded(settings: Settings, monkeypatch: pytest.MonkeyPatch, patience: float = PATIENCE) -> Iterator[Crowd]:
    runtimes: dict[str, FakeRuntime] = {}

    def runtime(manifest: Manifest) -> FakeRuntime:
        kind = HeldRuntime if manifest.name == settings.default_model else FakeRuntime
        return runtimes.setdefault(manifest.name, kind(manifest))

    app = application(settings, runtime)
    refused: list[dict[str, Any]] = []
    refuse = Door.refuse

    def recorded(door: Door, scope: dict[str, Any], body: bytes | None):
        answer = refuse(door, scope, body)
        if answer is not None:
            refused.append(scope)
        return answer

    monkeypatch.setattr(Door, "refuse", recorded)
    protocols: list[connection.GuardedProtocol] = []
    guarded = connection.guarded(patience, 100, lambda _: None, app.state.door)

    def remembered(*args: Any, **kwargs: Any) -> connection.GuardedProtocol:
        protocols.append(guarded(*args, **kwargs))
        return protocols[-1]

    options = {"http": remembered, "timeout_keep_alive": PATIENCE}
    with listening(app, **options) as address, ThreadPoolExecutor(3) as others:
        host, port = address.split(":")
        with httpx.Client(base_url=f"http://{address}", timeout=PATIENCE) as client:
            held = runtimes[settings.default_model]
            held.hold()
            four = {"attributes": {}, "count": 4}
            waiting = [others.submit(httpx.post, f"http://{address}/v1/generate", json=four, timeout=PATIENCE)]
            assert held.entered.wait(PATIENCE)
            waiting += [
                others.submit(httpx.post, f"http://{address}/v1/generate", json=four, timeout=PATIENCE) for _ in "ab"
            ]
            until(lambda: app.state.service.refusal("/v1/generate", False) is not None)
            try:
                yield Crowd(client, (host, int(port)), held.release, refused, protocols)
            finally:
                held.release()
            assert [each.result().status_code for each in waiting] == [200, 200, 200]


@pytest.fixture
def crowd(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    with crowded(settings, monkeypatch) as crowd:
        yield crowd


def test_a_refusal_reads_like_the_applications_own(crowd: Crowd):
    given = crowd.generate()
    assert len(crowd.at_the_door) == 1
    # A page of another origin is always the application's.
    own = crowd.generate(Origin="https://elsewhere.example")
    assert len(crowd.at_the_door) == 1
    body, own_body = problem(given, 429), problem(own, 429)
    assert body.pop("request_id") == given.headers["X-Request-ID"] != own_body.pop("request_id")
    assert body == own_body
    one_off = {"x-request-id", "date"}
    assert {k: v for k, v in given.headers.items() if k not in one_off} == {
        k: v for k, v in own.headers.items() if k not in one_off
    }
    assert int(given.headers["Retry-After"]) >= 1


def test_a_refusal_carries_the_id_that_the_client_gave(crowd: Crowd):
    answer = crowd.generate(**{"X-Request-ID": "mine-1"})
    assert len(crowd.at_the_door) == 1
    assert problem(answer, 429)["request_id"] == answer.headers["X-Request-ID"] == "mine-1"


def test_refusals_are_counted_like_the_applications_own(crowd: Crowd):
    rejected = 'facet_requests_rejected_total{reason="queue_full"}'
    before = crowd.metric(rejected)
    for _ in range(3):
        crowd.generate()
    assert len(crowd.at_the_door) == 3
    assert crowd.metric(rejected) == before + 3
    assert crowd.metric('facet_requests_total{code="429",endpoint="/v1/generate"}') == 3
    assert crowd.metric('facet_request_duration_seconds_count{endpoint="/v1/generate"}') == 3


def test_the_connection_goes_on_and_is_served_once_there_is_room(crowd: Crowd):
    line = http.client.HTTPConnection(*crowd.address, timeout=PATIENCE)
    statuses = []
    for number in range(4):
        if number == 2:
            crowd.release()
            until(lambda: crowd.metric('facet_queue_images{graph="decoder"}') == 0)
        line.request("POST", "/v1/generate", BODY, {"Content-Type": "application/json"})
        answer = line.getresponse()
        assert answer.read()
        statuses.append(answer.status)
    assert statuses == [429, 429, 200, 200]
    line.close()


def test_an_idle_connection_stays_open_after_a_refusal(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    with (
        crowded(settings, monkeypatch, patience=0.2) as crowd,
        socket.create_connection(crowd.address, PATIENCE) as client,
    ):
        for _ in range(2):
            client.sendall(HEAD + BODY)
            assert client.recv(65536).startswith(b"HTTP/1.1 429 ")
            time.sleep(0.5)  # longer than it has for a head, which it has not begun
        assert len(crowd.at_the_door) == 2


def test_whoever_does_not_read_waits_in_the_application(crowd: Crowd):
    with socket.create_connection(crowd.address, PATIENCE) as client:
        client.sendall(HEAD + BODY)
        assert client.recv(65536).startswith(b"HTTP/1.1 429 ")
        protocol = crowd.protocols[-1]
        # As the transport does once more is buffered than it likes: the application then writes nothing.
        protocol.loop.call_soon_threadsafe(protocol.flow.pause_writing)
        until(lambda: protocol.flow.write_paused)
        client.sendall(HEAD + BODY)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(65536)
        protocol.loop.call_soon_threadsafe(protocol.flow.resume_writing)
        client.settimeout(PATIENCE)
        assert client.recv(65536).startswith(b"HTTP/1.1 429 ")
        assert len(crowd.at_the_door) == 1


def test_pictures_are_refused_before_they_have_come(crowd: Crowd):
    with socket.create_connection(crowd.address, PATIENCE) as client:
        client.sendall(head(100_000, b"/v1/edit", b"image/jpeg"))
        assert client.recv(65536).startswith(b"HTTP/1.1 429 ")
        assert len(crowd.at_the_door) == 1
        client.sendall(bytes(100_000) + HEAD + BODY)  # what was announced is not taken for the next request
        assert client.recv(65536).startswith(b"HTTP/1.1 429 ")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(head(len(BODY), more=b"Connection: close\r\n") + BODY, id="it is the last"),
        pytest.param(head(len(BODY), more=b"Expect: 100-continue\r\n") + BODY, id="it waits for 100"),
        pytest.param(HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + BODY, id="it is of old"),
    ],
)
def test_the_application_refuses_where(crowd: Crowd, request_: bytes):
    with socket.create_connection(crowd.address, PATIENCE) as client:
        client.sendall(request_)
        received = b""
        while b"request_id" not in received:
            part = client.recv(65536)
            assert part, received
            received += part
    assert re.findall(rb"HTTP/1\.1 (\d+) ", received)[-1] == b"429"
    assert crowd.at_the_door == []


def test_requests_sent_at_once_are_answered_in_order(crowd: Crowd):
    probe = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(crowd.address, PATIENCE) as client:
        client.sendall(HEAD + BODY + HEAD + BODY + probe)
        received = b""
        while part := client.recv(65536):
            received += part
    assert re.findall(rb"HTTP/1\.1 (\d+) ", received) == [b"429", b"429", b"200"]
    assert received.count(b'"request_id"') == 2


def test_what_needs_no_work_is_let_in(crowd: Crowd):
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/tiny"):
        assert crowd.client.get(path).status_code == 200
    assert fields(problem(crowd.client.post("/v1/verify", content=b"?"), 415)) == ["image"]
    assert crowd.at_the_door == []


def test_who_may_name_a_model_with_room_is_let_in(
    settings: Settings, bundle_directory: Path, monkeypatch: pytest.MonkeyPatch
):
    other = bundle_directory.with_name("other")
    shutil.copytree(bundle_directory, other)
    rewrite_manifest(other, lambda manifest: manifest.update(name="other"))
    with crowded(settings, monkeypatch) as crowd:
        named = json.dumps({"attributes": {}, "seed": 1, "model": "other"}).encode()
        for sent, status, refused in [
            (head(len(named)) + named, 200, 0),
            (head(len(BODY), b"/v1/generate?model=other") + BODY, 429, 0),  # the application knows: not there
            (head(len(BODY)) + BODY[:5], None, 0),  # who knows what it will name
            (head(len(BODY)) + BODY, 429, 1),
            (head(100_000, b"/v1/edit", b"image/jpeg"), 429, 2),
        ]:
            with socket.create_connection(crowd.address, PATIENCE) as client:
                client.sendall(sent)
                if status is not None:
                    assert client.recv(65536).startswith(b"HTTP/1.1 %d " % status)
                else:
                    until(lambda: crowd.metric("facet_requests_in_flight") == 5)  # with those that wait, and with this
            assert len(crowd.at_the_door) == refused
