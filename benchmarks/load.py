"""An HTTP load generator: closed-loop, so many connections with one request under way each, or open-loop, at a rate.

Responses are parsed by httptools (C) in one asyncio process, so that the generator stays far below a core; `ceiling`
measures how far, against a server that does nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import httptools
import numpy as np


@dataclass(frozen=True)
class Request:
    """One HTTP/1.1 request as bytes, keep-alive, and how many images its answer counts as."""

    payload: bytes
    images: int = 1

    @staticmethod
    def post(
        path: str, content_type: str, body: bytes, headers: dict[str, str] | None = None, images: int = 1
    ) -> Request:
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {content_type}"]
        lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in (headers or {}).items())]
        return Request("\r\n".join(lines).encode() + b"\r\n\r\n" + body, images)

    def parts(self) -> tuple[str, dict[str, str], bytes]:
        """Path, headers and body, for clients that take them separately."""
        head, _, body = self.payload.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return first.split(" ")[1], dict(line.split(": ", 1) for line in lines), body


@dataclass
class Outcome:
    """What came back between `begin` and `end`: milliseconds of each answer by status, and images of those with 200."""

    seconds: float = 0.0
    images: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: dict[int, list[float]] = field(default_factory=dict)

    def add(self, status: int, seconds: float, images: int) -> None:
        self.statuses[status] += 1
        self.milliseconds.setdefault(status, []).append(1000 * seconds)
        if status == 200:
            self.images += images

    @property
    def throughput(self) -> float:
        """Images a second, of answers with 200."""
        return self.images / self.seconds

    def percentile(self, share: float, status: int = 200) -> float:
        """Milliseconds within which that share, 0 to 100, of the answers with `status` came; NaN without any."""
        values = self.milliseconds.get(status)
        return float(np.percentile(values, share)) if values else float("nan")


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[int] | None = None

    @property
    def closed(self) -> bool:
        """Whether the last answer or the server ended it, so that the next request needs another."""
        return self._transport is None or self._transport.is_closing()

    def ask(self, payload: bytes) -> asyncio.Future[int]:
        """Send a request; the future is its status, or ConnectionError."""
        self._answer = asyncio.get_running_loop().create_future()
        if self.closed:
            self._answer.set_exception(ConnectionError("closed"))
        else:
            self._transport.write(payload)
        return self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self.close()
        self._parser = httptools.HttpResponseParser(self)
        if self._answer and not self._answer.done():
            self._answer.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server closed the connection"))


async def press(
    port: int, requests: Iterable[Request], concurrency: int, seconds: float, warm_up: float = 1.0, late: bool = False
) -> Outcome:
    """Keep `concurrency` requests under way for `warm_up` + `seconds` seconds, going round `requests`.

    Answers count that come after the warm-up, whenever they were asked for: counting only requests that begin after it
    would leave out the first round of a full queue, which is most of a short measurement of slow answers. With `late`,
    which is for measurements without a warm-up, those count too that come when the time is up. A connection that breaks
    counts as status 0 and is reopened.
    """
    loop, outcome = asyncio.get_running_loop(), Outcome()
    supply: Iterator[Request] = itertools.cycle(requests)
    begin = time.perf_counter() + warm_up
    end = begin + seconds

    async def worker() -> None:
        connection: _Connection | None = None
        while (started := time.perf_counter()) < end:
            request = next(supply)
            try:
                # An answer that says `Connection: close` ends its connection without being a fault.
                if connection is None or connection.closed:
                    _, connection = await loop.create_connection(_Connection, "127.0.0.1", port)
                status = await connection.ask(request.payload)
            except (ConnectionError, OSError, httptools.HttpParserError):
                status, connection = 0, None
                await asyncio.sleep(0.01)
            now = time.perf_counter()
            if begin <= now and (late or now <= end):
                outcome.add(status, now - started, request.images)
        if connection is not None:
            connection.close()

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    outcome.seconds = seconds
    return outcome


class _Pool:
    """Connections to one port: a request takes one that is free, or opens one."""

    def __init__(self, port: int) -> None:
        self._port, self._free = port, []

    async def ask(self, payload: bytes) -> int:
        """The status of the answer, 0 where the connection broke."""
        try:
            # Servers close connections that nobody used for some seconds, and some with an answer.
            while self._free and self._free[-1].closed:
                self._free.pop()
            if self._free:
                connection = self._free.pop()
            else:
                loop = asyncio.get_running_loop()
                _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
            status = await connection.ask(payload)
            self._free.append(connection)
        except (ConnectionError, OSError, httptools.HttpParserError):
            return 0
        return status

    def close(self) -> None:
        for connection in self._free:
            connection.close()


async def flood(port: int, requests: Iterable[Request], rate: float, seconds: float) -> tuple[Outcome, float]:
    """Begin `rate` requests a second whatever comes back, each on a connection that is free or new.

    Waits for all answers. Returns the outcome over `seconds`, and the rate at which requests really began.
    """
    outcome, pool = Outcome(seconds=seconds), _Pool(port)
    supply, under_way = itertools.cycle(requests), set()
    begin = time.perf_counter()

    async def one(request: Request) -> None:
        started = time.perf_counter()
        status = await pool.ask(request.payload)
        outcome.add(status, time.perf_counter() - started, request.images)

    begun = 0
    while (now := time.perf_counter() - begin) < seconds:
        for _ in range(int(now * rate) - begun):
            task = asyncio.create_task(one(next(supply)))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            begun += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*under_way)
    outcome.seconds = time.perf_counter() - begin
    pool.close()
    return outcome, begun / seconds


@dataclass(frozen=True)
class Answer:
    """When a request should have begun and did begin, when it ended, in seconds, and its status."""

    due: float
    begun: float
    ended: float
    status: int


async def replay(port: int, requests: Iterable[Request], times: Iterable[float]) -> list[Answer]:
    """Begin requests at those times, seconds from now in ascending order, whatever comes back; wait for all answers."""
    pool, supply, begin = _Pool(port), itertools.cycle(requests), time.perf_counter()

    async def one(due: float, request: Request) -> Answer:
        begun = time.perf_counter() - begin
        status = await pool.ask(request.payload)
        return Answer(due, begun, time.perf_counter() - begin, status)

    tasks = []
    for due in times:
        while (early := due - (time.perf_counter() - begin)) > 0:
            await asyncio.sleep(early)
        tasks.append(asyncio.create_task(one(due, next(supply))))
        if len(tasks) % 16 == 0:
            await asyncio.sleep(0)  # a generator that is late still listens to what comes back
    answers = await asyncio.gather(*tasks)
    pool.close()
    return answers


async def hang_up(port: int, payload: bytes, rng: random.Random) -> None:
    """Be a client that closes its connection before the answer: within 0.3 s, one in ten with the request half sent."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(payload if rng.random() < 0.9 else payload[: rng.randrange(len(payload))])
    await asyncio.sleep(rng.uniform(0, 0.3))
    writer.transport.abort()


class _Nothing(asyncio.Protocol):
    """A server that answers each request at once with 6,000 bytes."""

    _ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 6000\r\n\r\n" + bytes(6000)

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport, self._parser = transport, httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self._transport.write(self._ANSWER)


async def ceiling(requests: list[Request], concurrency: int, seconds: float) -> float:
    """Answers a second of a server that does nothing, in this same thread: what the generator itself can do."""
    server = await asyncio.get_running_loop().create_server(_Nothing, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return (await press(port, requests, concurrency, seconds, warm_up=0.2)).throughput
