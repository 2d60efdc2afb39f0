"""The load generator counts what a server really answered."""

from __future__ import annotations

import asyncio
import itertools
import math

from benchmarks.load import Answer, Outcome, Request, ceiling, flood, press, replay

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
REQUEST = Request.post("/v1/generate", "application/json", b"{}", {"Accept": "image/png"}, images=3)


class Scripted:
    """A server that goes round its answers; None closes the connection instead. It keeps what it was sent."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers, self.seen, self.connections = itertools.cycle(answers), [], 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length: "))
                self.seen.append((head, await reader.readexactly(length)))
                answer = next(self.answers)
                if answer is not None:
                    writer.write(answer)
                if answer is None or b"Connection: close" in answer:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def pressed(server: Scripted, concurrency: int = 2) -> Outcome:
    async def story() -> Outcome:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        async with listening:
            port = listening.sockets[0].getsockname()[1]
            return await press(port, [REQUEST], concurrency, seconds=0.3, warm_up=0.0)

    return asyncio.run(story())


def test_a_request_arrives_as_it_was_made():
    server = Scripted(GOOD)
    pressed(server)
    head, body = server.seen[0]
    assert head.startswith(b"POST /v1/generate HTTP/1.1\r\n")
    assert b"Content-Type: application/json\r\n" in head
    assert b"Accept: image/png\r\n" in head
    assert body == b"{}"


def test_every_connection_has_one_request_under_way_and_is_kept():
    server = Scripted(GOOD, CHUNKED)
    outcome = pressed(server, concurrency=3)
    assert server.connections == 3
    assert set(outcome.statuses) == {200}
    assert len(server.seen) - 3 <= outcome.statuses[200] <= len(server.seen)
    assert outcome.images == 3 * outcome.statuses[200]
    assert outcome.throughput == outcome.images / 0.3


def test_refusals_are_counted_apart_and_are_no_throughput():
    outcome = pressed(Scripted(GOOD, BUSY), concurrency=1)
    assert abs(outcome.statuses[200] - outcome.statuses[429]) <= 1
    assert outcome.images == 3 * outcome.statuses[200]
    assert len(outcome.milliseconds[429]) == outcome.statuses[429]


def test_a_connection_that_breaks_is_counted_and_opened_again():
    server = Scripted(GOOD, None, LAST)
    outcome = pressed(server, concurrency=1)
    assert outcome.statuses[0] >= 1
    assert set(outcome.statuses) == {0, 200}
    # Of each three answers one breaks: the server that says it closes did not.
    assert abs(outcome.statuses[200] - 2 * outcome.statuses[0]) <= 1
    assert server.connections > 2


def test_an_answer_that_ends_its_connection_is_no_fault():
    server = Scripted(LAST)
    outcome = pressed(server, concurrency=1)
    assert set(outcome.statuses) == {200}
    assert server.connections >= outcome.statuses[200] > 1


def test_nobody_there_is_no_throughput():
    outcome = asyncio.run(press(9, [REQUEST], 1, seconds=0.1, warm_up=0.0))
    assert outcome.throughput == 0
    assert set(outcome.statuses) == {0}


def test_percentiles_are_of_one_status():
    outcome = Outcome(seconds=1.0)
    for number in range(1, 101):
        outcome.add(200, number / 1000, images=1)
    outcome.add(429, 5.0, images=1)
    assert 50 <= outcome.percentile(50) <= 51
    assert outcome.percentile(50, status=429) == 5000
    assert math.isnan(outcome.percentile(50, status=503))


def test_the_generator_itself_is_measured():
    assert asyncio.run(ceiling([REQUEST], concurrency=4, seconds=0.1)) > 0


def test_a_flood_begins_at_its_rate_whatever_comes_back():
    async def story() -> tuple[Outcome, float]:
        server = Scripted(GOOD, BUSY, None)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        async with listening:
            return await flood(listening.sockets[0].getsockname()[1], [REQUEST], rate=200, seconds=0.3)

    outcome, rate = asyncio.run(story())
    begun = sum(outcome.statuses.values())
    assert 40 <= begun <= 60
    assert rate == begun / 0.3
    assert set(outcome.statuses) == {200, 429, 0}
    assert outcome.images == 3 * outcome.statuses[200]


def test_a_replay_begins_each_request_when_it_is_due_and_keeps_the_order():
    times = [0.0, 0.05, 0.05, 0.1]

    async def story() -> list[Answer]:
        server = Scripted(GOOD, BUSY, GOOD, GOOD)
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        async with listening:
            return await replay(listening.sockets[0].getsockname()[1], [REQUEST], times)

    answers = asyncio.run(story())
    assert [answer.due for answer in answers] == times
    assert all(answer.due <= answer.begun < answer.ended for answer in answers)
    assert sorted(answer.status for answer in answers) == [200, 200, 200, 429]


def test_a_replay_counts_broken_connections():
    async def story() -> list[Answer]:
        listening = await asyncio.start_server(Scripted(None).serve, "127.0.0.1", 0)
        async with listening:
            return await replay(listening.sockets[0].getsockname()[1], [REQUEST], [0.0, 0.01])

    assert [answer.status for answer in asyncio.run(story())] == [0, 0]


def test_a_request_can_be_taken_apart():
    path, headers, body = Request.post("/v1/edit?a=b", "image/jpeg", b"x\r\n\r\ny", {"Accept": "image/png"}).parts()
    assert (path, body) == ("/v1/edit?a=b", b"x\r\n\r\ny")
    assert headers == {
        "Host": "localhost",
        "Content-Type": "image/jpeg",
        "Content-Length": "6",
        "Accept": "image/png",
    }


def test_an_answer_counts_that_was_asked_for_during_the_warm_up():
    class Slow(Scripted):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(1.0)
            await super().serve(reader, writer)

    async def story() -> Outcome:
        listening = await asyncio.start_server(Slow(LAST).serve, "127.0.0.1", 0)
        async with listening:
            return await press(listening.sockets[0].getsockname()[1], [REQUEST], 1, seconds=1.5, warm_up=0.2)

    assert asyncio.run(story()).statuses[200] == 1  # and not the next one, which comes after the end
