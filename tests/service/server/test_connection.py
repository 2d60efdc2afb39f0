"""Clients that dribble, lie and do not read, against a real server on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from service.server import connection
from service.server.connection import MAX_HEAD_BYTES
from tests.service.fakes import PATIENCE

TIMEOUT = 0.3  # seconds that a client has; the server's timers run out only when a test says so
HEAD_TIMER, READER_TIMER, IDLE_TIMER = "_request_timed_out", "_check_reader", "timeout_keep_alive_handler"
LARGE = 8_000_000  # bytes, more than the kernel keeps for a reader
COMPLETE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Timer:
    """What `call_later` returns; `run` is called when the test says that the time is up."""

    def __init__(self, callback: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.name, self.run, self.pending = callback.__name__, lambda: callback(*arguments), True

    def cancel(self) -> None:
        self.pending = False


class Loop:
    """The server's event loop, but for its timers, which never run out by themselves."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timers: list[Timer]) -> None:
        self._loop, self._timers = loop, timers

    def call_later(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> Timer:
        self._timers.append(Timer(callback, arguments))
        return self._timers[-1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class Server:
    """Answers / with two bytes, /large with many, and /refuse without reading the body."""

    def __init__(self, most: int = 1000) -> None:
        self.refused: Counter[str] = Counter()
        self.protocols: list[connection.LimitedProtocol] = []
        self.timers: list[Timer] = []
        self.received = 0  # bytes
        make = connection.limited(TIMEOUT, most, lambda reason: self.refused.update([reason]))

        def remembered(*args, **kwargs) -> connection.LimitedProtocol:
            protocol = make(*args, **kwargs)
            self.loop, protocol.loop = protocol.loop, Loop(protocol.loop, self.timers)
            self.protocols.append(protocol)
            read = protocol.data_received

            def counted(data: bytes) -> None:
                read(data)
                self.received += len(data)

            protocol.data_received = counted
            return protocol

        config = uvicorn.Config(
            self.app,
            interface="asgi3",
            port=0,
            http=remembered,
            ws="none",
            lifespan="off",
            log_config=None,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        self.until(lambda: self.server.started)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]

    async def app(self, scope, receive, send) -> None:
        if scope["path"] != "/refuse":
            while (await receive()).get("more_body"):
                pass
        body = bytes(LARGE) if scope["path"] == "/large" else b"ok"
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    @property
    def open(self) -> int:
        return len(self.server.server_state.connections)

    def pending(self, name: str) -> list[Timer]:
        """The timers of that name that have neither been cancelled nor run out."""
        return [timer for timer in [*self.timers] if timer.name == name and timer.pending]

    def expire(self, name: str, count: int = 1) -> None:
        """Wait until `count` timers of that name are pending, and let them run out."""
        self.until(lambda: len(self.pending(name)) == count)
        for timer in self.pending(name):
            timer.pending = False
            self.loop.call_soon_threadsafe(timer.run)

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < end, "it never came true"
            time.sleep(0.01)

    def connect(self) -> socket.socket:
        # A small window, so that what is not read stays with the server.
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE)
        client.connect(("127.0.0.1", self.port))
        return client

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def rest(client: socket.socket) -> bytes:
    """What the server sends until it closes."""
    received = b""
    while part := client.recv(65536):
        received += part
    return received


def read_response(client: socket.socket, count: int = 1) -> None:
    """Read so many responses of /; head and body may arrive apart."""
    received = b""
    while received.count(b"HTTP/1.1 200 OK") < count or not received.endswith(b"ok"):
        part = client.recv(1000)
        assert part, received
        received += part


def dribble(client: socket.socket, data: bytes) -> None:
    """Send a byte at a time."""
    for place in range(len(data)):
        client.sendall(data[place : place + 1])


def problem(answer: bytes, status: int) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    told = json.loads(body)
    assert told["status"] == status
    assert f"x-request-id: {told['request_id']}".encode() in head


def test_a_connection_that_says_nothing_is_closed(server: Server):
    with server.connect() as client:
        server.expire(HEAD_TIMER)
        assert rest(client) == b""
    assert not server.refused


def test_a_connection_too_many_gets_503_until_another_one_closes():
    server = Server(most=3)
    with contextlib.ExitStack() as idle:
        held = [idle.enter_context(server.connect()) for _ in range(3)]
        server.until(lambda: server.open == 3)
        for number in (1, 2):
            with server.connect() as client:  # which has not said anything
                answer = rest(client)
            problem(answer, 503)
            assert b"retry-after: 1\r\n" in answer
            assert server.refused == {"connections_full": number}
        held[0].close()
        server.until(lambda: server.open == 2)
        with server.connect() as client:
            client.sendall(COMPLETE)
            read_response(client)
        held[1].sendall(COMPLETE)  # those that were let in go on
        read_response(held[1])
    server.stop()


def test_idle_connections_make_room_by_themselves():
    server = Server(most=3)
    with contextlib.ExitStack() as idle:
        held = [idle.enter_context(server.connect()) for _ in range(3)]
        for client in held:
            client.sendall(COMPLETE)
        server.expire(IDLE_TIMER, 3)
        for client in held:
            assert rest(client).endswith(b"ok")  # and then the server closes
        with server.connect() as client:
            client.sendall(COMPLETE)
            read_response(client)
    assert not server.refused
    server.stop()


def test_a_head_that_dribbles_gets_408(server: Server):
    with server.connect() as client:
        dribble(client, COMPLETE[:-1])
        # All of it: a server that closes with bytes unread resets the connection.
        server.until(lambda: server.received == len(COMPLETE) - 1)
        assert len(server.timers) == 1  # whatever arrives, the time for a head is not begun anew
        server.expire(HEAD_TIMER)
        problem(rest(client), 408)
    assert server.refused == {"slow_client": 1}


def test_line_ends_before_a_request_are_no_way_to_stay(server: Server):
    with server.connect() as client:
        client.sendall(COMPLETE)
        read_response(client)
        dribble(client, b"\r\n" * 10)
        server.expire(HEAD_TIMER)
        assert rest(client) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
        b"GET / HTTP/1.1\r\nX: " + b"y" * 10 * MAX_HEAD_BYTES,
        b"GET /" + b"y" * 10 * MAX_HEAD_BYTES,
    ],
    ids=["many headers", "a long header", "a long path"],
)
def test_a_head_without_end_gets_431(head: bytes):
    server = Server()
    with server.connect() as client:
        for start in range(0, len(head), 8192):
            try:
                client.sendall(head[start : start + 8192])
            except OSError:
                break
        with contextlib.suppress(ConnectionResetError):  # it was closed with more of the head on its way
            problem(rest(client), 431)
    server.until(lambda: server.refused == {"head_too_large": 1})
    server.stop()


def test_what_is_not_http_gets_a_problem(server: Server):
    with server.connect() as client:
        client.sendall(b"\x16\x03\x01 this is TLS\r\n\r\n")
        problem(rest(client), 400)
    assert server.refused == {"malformed": 1}


def test_nonsense_behind_a_request_is_not_answered_in_its_place(server: Server):
    with server.connect() as client:
        client.sendall(COMPLETE + b"nonsense\r\n\r\n")
        answer = rest(client)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"ok")  # and then the server closes
    assert server.refused == {"malformed": 1}


CHUNKED = b"POST /%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [b"zz\r\nab\r\n", b"2\r\nabcdef\r\n0\r\n\r\n", b"-2\r\nab\r\n", b'{"seed": 1}', b"2\r\nab\r\nnonsense", b"f" * 20],
    ids=["no size", "too long", "a negative size", "no chunks", "no second chunk", "a huge size"],
)
@pytest.mark.parametrize("apart", [False, True], ids=["at once", "after the head"])
@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"], ids=["", "100-continue"])
def test_a_body_that_is_not_chunked_as_it_says_gets_400(
    server: Server, caplog: pytest.LogCaptureFixture, body: bytes, apart: bool, expects: bytes
):
    head = (CHUNKED % b"").replace(b"\r\n\r\n", b"\r\n" + expects + b"\r\n")
    with server.connect() as client:
        client.sendall(head + (b"" if apart else body))
        if apart:
            server.until(lambda: any(each.cycle for each in server.protocols))
            client.sendall(body)
        problem(rest(client).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"), 400)
        client.sendall(bytes(100_000))  # what is on its way must not reset the connection
    server.until(lambda: server.open == 0)
    assert server.refused == {"malformed": 1}
    server.until(lambda: not server.server.server_state.tasks)  # the application has been told, too
    assert not [each for each in caplog.records if each.levelname == "ERROR"]


def test_a_client_that_is_refused_and_stays_is_given_up(server: Server):
    with server.connect() as client:
        client.sendall(CHUNKED % b"" + b"zz\r\n")
        problem(rest(client), 400)
        server.expire("abort")
        server.until(lambda: server.open == 0)


def test_what_was_answered_already_is_not_answered_again(server: Server):
    with server.connect() as client:
        client.sendall(CHUNKED % b"refuse" + b"2\r\nab\r\n")
        read_response(client)
        client.sendall(b"zz\r\n")
        assert rest(client) == b""
    assert server.refused == {"malformed": 1}


def test_a_server_that_stops_does_not_wait_for_a_client_that_is_refused():
    server = Server()
    with server.connect() as client:
        client.sendall(CHUNKED % b"" + b"zz\r\n")
        problem(rest(client), 400)
        server.stop()


def test_a_body_that_nobody_reads_any_more_ends(server: Server):
    with server.connect() as client:
        client.sendall(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        read_response(client)
        dribble(client, bytes(10))
        server.expire(HEAD_TIMER)
        server.until(lambda: server.refused == {"slow_client": 1})


def test_a_reader_that_does_not_read_is_given_up(server: Server):
    with server.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        server.until(lambda: any(each.cycle and each.cycle.response_complete for each in server.protocols))
        while not server.refused:  # what the kernel takes at first is progress
            server.expire(READER_TIMER)
            server.until(lambda: server.refused or server.pending(READER_TIMER))
        assert server.refused == {"slow_client": 1}
        server.until(lambda: server.open == 0)


def test_a_reader_that_goes_on_reading_gets_all_of_it(server: Server):
    with server.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received, periods, watched = 0, 0, (None, 0)
        while part := client.recv(200_000):
            received += len(part)
            timer = next(iter(server.pending(READER_TIMER)), None)
            if timer is not watched[0]:
                watched = timer, received  # from here on the server counts
            elif timer and received > watched[1] + 1_000_000:
                server.expire(READER_TIMER)
                periods += 1
    assert received > LARGE
    assert periods > 1
    assert not server.refused


def test_one_connection_carries_many_requests_and_several_at_once(server: Server):
    with server.connect() as client:
        for _ in range(3):
            client.sendall(COMPLETE)
            read_response(client)
            server.until(lambda: server.pending(IDLE_TIMER) and not server.pending(HEAD_TIMER))
        client.sendall(COMPLETE * 3)
        read_response(client, 3)
        server.expire(IDLE_TIMER)
        assert rest(client) == b""
    assert not server.refused


def test_an_upgrade_that_is_not_offered_is_ignored(server: Server):
    with server.connect() as client:
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_server_that_stops_does_not_wait_for_a_reader_that_does_not_read():
    server = Server()
    with server.connect() as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        server.until(lambda: any(each.cycle and each.cycle.response_complete for each in server.protocols))
        server.server.should_exit = True

        def stopped() -> bool:
            if server.pending(READER_TIMER):
                server.expire(READER_TIMER)
            return not server.thread.is_alive()

        server.until(stopped)


def test_timers_end_with_their_connection(server: Server):
    with server.connect() as client:
        client.sendall(COMPLETE[:10])
        server.until(lambda: server.open == 1)
    server.until(lambda: server.open == 0)
    timers = [each for each in server.protocols if each._request_timer or each._reader_timer]
    assert timers == []
