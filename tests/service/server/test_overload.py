"""Refusals under overload, by a real server: the models are full and clients keep coming."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.bundle.manifest import Manifest
from service.server import connection
from service.settings import Settings
from tests.fake_runtime import FakeRuntime
from tests.service.fakes import PATIENCE, HeldRuntime, application, fields, listening, problem, rewrite_manifest, until

BODY = json.dumps({"attributes": {"Smiling": 1.0}, "seed": 1}).encode()


def head(length: int, path: bytes = b"/v1/generate", kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    lines = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n"
    return lines % (path, kind, length, more)


HEAD = head(len(BODY))


@dataclass
class Overload:
    """A service whose default model is full until `release`; `client` has one connection.

    `connections` are all that the server has accepted, in order.
    """

    client: httpx.Client
    address: tuple[str, int]
    release: Callable[[], None]
    connections: list[connection.LimitedProtocol]

    def generate(self, body: bytes = BODY, **headers: str) -> httpx.Response:
        return self.client.post("/v1/generate", content=body, headers={"Content-Type": "application/json"} | headers)

    def metric(self, line: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(text.rsplit(" ", 1)[1]) for text in lines if text.startswith(line))


@contextmanager
def overloaded(settings: Settings) -> Iterator[Overload]:
    runtimes: dict[str, FakeRuntime] = {}
    connections: list[connection.LimitedProtocol] = []
    make = connection.limited(PATIENCE, 100, lambda _: None)

    def runtime(manifest: Manifest) -> FakeRuntime:
        kind = HeldRuntime if manifest.name == settings.default_model else FakeRuntime
        return runtimes.setdefault(manifest.name, kind(manifest))

    def remembered(*args: Any, **kwargs: Any) -> connection.LimitedProtocol:
        connections.append(make(*args, **kwargs))
        return connections[-1]

    app = application(settings, runtime)
    with (
        listening(app, http=remembered, timeout_keep_alive=PATIENCE) as address,
        ThreadPoolExecutor(3) as others,
    ):
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
            until(lambda: app.state.service.models.refusal("decoder", any_model=False) is not None)
            try:
                yield Overload(client, (host, int(port)), held.release, connections)
            finally:
                held.release()
            assert [each.result().status_code for each in waiting] == [200, 200, 200]


@pytest.fixture
def overload(settings: Settings) -> Iterator[Overload]:
    with overloaded(settings) as overload:
        yield overload


def test_a_refusal_is_a_problem_with_seconds_to_wait(overload: Overload):
    answer = overload.generate()
    assert problem(answer, 429)["request_id"] == answer.headers["X-Request-ID"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_refusal_carries_the_id_that_the_client_gave(overload: Overload):
    answer = overload.generate(**{"X-Request-ID": "mine-1"})
    assert problem(answer, 429)["request_id"] == answer.headers["X-Request-ID"] == "mine-1"


def test_each_refusal_has_its_own_id_and_length(overload: Overload):
    ids = ["a", "-" * 32, "b" * 128, "c"]
    for request_id in ids:
        answer = overload.generate(**{"X-Request-ID": request_id})
        assert problem(answer, 429)["request_id"] == answer.headers["X-Request-ID"] == request_id
        assert int(answer.headers["Content-Length"]) == len(answer.content)


def test_refusals_are_counted_once(overload: Overload):
    rejected = 'facet_requests_rejected_total{reason="queue_full"}'
    before = overload.metric(rejected)
    for _ in range(3):
        overload.generate()
    assert overload.metric(rejected) == before + 3
    assert overload.metric('facet_requests_total{code="429",endpoint="/v1/generate"}') == 3
    assert overload.metric('facet_request_duration_seconds_count{endpoint="/v1/generate"}') == 3


def test_the_connection_goes_on_and_is_served_once_there_is_room(overload: Overload):
    line = http.client.HTTPConnection(*overload.address, timeout=PATIENCE)
    statuses = []
    for number in range(4):
        if number == 2:
            overload.release()
            until(lambda: overload.metric('facet_queue_images{graph="decoder"}') == 0)
        line.request("POST", "/v1/generate", BODY, {"Content-Type": "application/json"})
        answer = line.getresponse()
        assert answer.read()
        statuses.append(answer.status)
    assert statuses == [429, 429, 200, 200]
    line.close()


def test_an_idle_connection_stays_open_after_a_refusal(overload: Overload):
    line = http.client.HTTPConnection(*overload.address, timeout=PATIENCE)
    used = []
    for _ in range(2):
        line.request("POST", "/v1/generate", BODY, {"Content-Type": "application/json"})
        answer = line.getresponse()
        assert (answer.status, bool(answer.read())) == (429, True)
        used.append(overload.connections[-1])
        until(lambda: used[-1]._request_timer is None)  # the time for a head has not begun
    assert used[0] is used[1]
    line.close()


def test_pictures_are_refused_before_they_have_come(overload: Overload):
    with socket.create_connection(overload.address, PATIENCE) as client:
        client.sendall(head(100_000, b"/v1/edit", b"image/jpeg"))
        assert client.recv(65536).startswith(b"HTTP/1.1 429 ")
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
def test_every_kind_of_connection_gets_its_refusal(overload: Overload, request_: bytes):
    with socket.create_connection(overload.address, PATIENCE) as client:
        client.sendall(request_)
        received = b""
        while b"request_id" not in received:
            part = client.recv(65536)
            assert part, received
            received += part
    assert re.findall(rb"HTTP/1\.1 (\d+) ", received)[-1] == b"429"


def test_requests_sent_at_once_are_answered_in_order(overload: Overload):
    probe = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with socket.create_connection(overload.address, PATIENCE) as client:
        client.sendall(HEAD + BODY + HEAD + BODY + probe)
        received = b""
        while part := client.recv(65536):
            received += part
    assert re.findall(rb"HTTP/1\.1 (\d+) ", received) == [b"429", b"429", b"200"]
    assert received.count(b'"request_id"') == 2


def test_what_needs_no_work_is_let_in(overload: Overload):
    for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/tiny"):
        assert overload.client.get(path).status_code == 200
    assert fields(problem(overload.client.post("/v1/verify", content=b"?"), 415)) == ["image"]


def test_who_may_name_a_model_with_room_is_let_in(settings: Settings, bundle_directory: Path):
    other = bundle_directory.with_name("other")
    shutil.copytree(bundle_directory, other)
    rewrite_manifest(other, lambda manifest: manifest.update(name="other"))
    with overloaded(settings) as overload:
        named = json.dumps({"attributes": {}, "seed": 1, "model": "other"}).encode()
        for sent, status in [
            (head(len(named)) + named, 200),
            (head(len(BODY), b"/v1/generate?model=other") + BODY, 429),  # the application knows: not there
            (head(len(BODY)) + BODY[:5], None),  # who knows what it will name
            (head(len(BODY)) + BODY, 429),
            (head(100_000, b"/v1/edit", b"image/jpeg"), 429),
        ]:
            with socket.create_connection(overload.address, PATIENCE) as client:
                client.sendall(sent)
                if status is not None:
                    assert client.recv(65536).startswith(b"HTTP/1.1 %d " % status)
                else:
                    until(lambda: overload.metric("facet_requests_in_flight") == 5)  # three are waiting
