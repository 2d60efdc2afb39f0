"""Every request has an id, timings, a size limit, metrics, and an answer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service import logs
from service.calls import CallMiddleware
from service.limits import Bodies
from service.metrics import Metrics
from service.problems import Problem
from tests.service import fakes
from tests.service.fakes import TestClient

LIMIT = 1000


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def client_of(app: ASGIApp, metrics: Metrics, **options: Any) -> TestClient:
    return TestClient(CallMiddleware(app, metrics, max_body_bytes=LIMIT, timeout=fakes.PATIENCE), **options)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message["body"]), message.get("more_body", False)
    scope["state"]["call"].headers["X-Extra"] = "yes"
    await PlainTextResponse(str(length))(scope, receive, send)


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"facet_{name}", labels) or 0.0


@pytest.mark.parametrize("offered", ["abc", "A.b-c_9", "x" * 128])
def test_a_sensible_request_id_is_kept(metrics: Metrics, offered: str):
    response = client_of(echo, metrics).get("/", headers={"X-Request-ID": offered})
    assert response.headers["x-request-id"] == offered


@pytest.mark.parametrize("offered", ["", "x" * 129, "two words", "<script>", "a\tb", "naïve"])
def test_another_request_id_is_replaced(metrics: Metrics, offered: str):
    response = client_of(echo, metrics).get("/", headers={"X-Request-ID": offered.encode("latin-1")})
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_generated_ids_differ(metrics: Metrics):
    client = client_of(echo, metrics)
    assert client.get("/").headers["x-request-id"] != client.get("/").headers["x-request-id"]


def test_headers_of_the_call_are_sent(metrics: Metrics):
    assert client_of(echo, metrics).get("/").headers["x-extra"] == "yes"


def test_a_body_within_the_limit_passes_untouched(metrics: Metrics):
    assert client_of(echo, metrics).post("/", content=b"x" * LIMIT).text == str(LIMIT)


def test_a_body_that_announces_too_much_is_413_before_it_is_read(metrics: Metrics):
    response = client_of(echo, metrics).post("/", content=b"x" * (LIMIT + 1))
    body = fakes.problem(response, 413)
    assert fakes.fields(body) == ["body"]
    assert str(LIMIT) in body["detail"]
    assert value(metrics, "requests_rejected_total", reason="body_too_large") == 1


def chunks() -> Iterator[bytes]:
    for _ in range(5):
        yield b"x" * 300


def test_a_body_that_announces_nothing_is_413_once_it_is_too_much(metrics: Metrics):
    response = client_of(echo, metrics).post("/", content=chunks())
    assert "content-length" not in response.request.headers
    fakes.problem(response, 413)


def test_a_body_that_lies_about_its_length_is_413(metrics: Metrics):
    response = client_of(echo, metrics).post("/", content=b"x" * 2000, headers={"Content-Length": "5"})
    fakes.problem(response, 413)


class Uploads:
    """Requests to a middleware whose application keeps each body until it is told to answer."""

    def __init__(self, metrics: Metrics, limit: int) -> None:
        self.bodies = Bodies(limit, metrics)
        self._middleware = CallMiddleware(self._keep, metrics, LIMIT, fakes.PATIENCE, bodies=self.bodies)
        self.kept, self.answer = asyncio.Semaphore(0), asyncio.Event()

    async def _keep(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        self.kept.release()
        await self.answer.wait()
        await PlainTextResponse("thanks")(scope, receive, send)

    async def send(self, parts: list[int], promised: int | None = None) -> int:
        """Upload parts of so many bytes, and promise that many; gives the status."""
        messages = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in parts]
        messages[-1]["more_body"] = False
        sent: list[Any] = []

        async def receive():
            if messages:
                return messages.pop(0)
            await asyncio.Event().wait()

        async def send(message) -> None:
            sent.append(message)

        headers = [] if promised is None else [(b"content-length", str(promised).encode())]
        await self._middleware({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send)
        return sent[0]["status"]


@pytest.mark.parametrize("promised", [500, None])
def test_bodies_that_are_held_at_once_are_bounded(metrics: Metrics, promised: int | None):
    async def story() -> None:
        uploads = Uploads(metrics, limit=900)
        async with asyncio.timeout(fakes.PATIENCE):
            first = asyncio.create_task(uploads.send([300, 200]))
            await uploads.kept.acquire()
            assert uploads.bodies.held == value(metrics, "request_body_bytes") == 500
            assert await uploads.send([250, 250], promised) == 429
            assert value(metrics, "requests_rejected_total", reason="bodies_full") == 1
            assert uploads.bodies.held == 500  # what was refused is gone
            second = asyncio.create_task(uploads.send([400]))
            await uploads.kept.acquire()
            uploads.answer.set()
            assert [await first, await second] == [200, 200]
            assert uploads.bodies.held == 0
            assert await uploads.send([250, 250], promised) == 200

    asyncio.run(story())


def test_a_body_that_is_only_promised_keeps_nobody_out(metrics: Metrics):
    async def story() -> None:
        uploads = Uploads(metrics, limit=900)
        async with asyncio.timeout(fakes.PATIENCE):
            silent = asyncio.create_task(uploads.send([1], promised=900))
            await uploads.kept.acquire()
            other = asyncio.create_task(uploads.send([800], promised=800))
            await uploads.kept.acquire()
            uploads.answer.set()
            assert [await silent, await other] == [200, 200]

    asyncio.run(story())


def test_one_body_is_taken_however_little_all_may_have(metrics: Metrics):
    async def story() -> None:
        uploads = Uploads(metrics, limit=100)
        uploads.answer.set()
        async with asyncio.timeout(fakes.PATIENCE):
            assert await uploads.send([500, 400], promised=900) == 200

    asyncio.run(story())


@pytest.mark.parametrize("length", ["abc", "-1", "1e9", ""])
def test_a_senseless_length_is_not_believed(metrics: Metrics, length: str):
    response = client_of(echo, metrics).post("/", content=b"hello", headers={"Content-Length": length})
    assert response.text == "5"


def failing(exc: Exception) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise exc

    return app


def test_an_error_nobody_caught_is_a_500_that_gives_nothing_away(metrics: Metrics):
    response = client_of(failing(RuntimeError("swordfish")), metrics).get("/")
    body = fakes.problem(response, 500)
    assert "swordfish" not in response.text
    assert "RuntimeError" not in response.text
    assert "errors" not in body


def test_an_error_nobody_caught_is_logged_with_its_request_id(metrics: Metrics, caplog, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(caplog.handler, "emit", lambda record: lines.append(logs.JsonFormatter().format(record)))
    client_of(failing(RuntimeError("swordfish")), metrics).get("/", headers={"X-Request-ID": "id-9"})
    (line,) = [line for line in map(json.loads, lines) if line["logger"] == "service.problems"]
    assert line["request_id"] == "id-9"
    assert line["stack"].endswith("RuntimeError: swordfish")


def test_a_problem_keeps_its_status_and_is_no_news_for_the_log(metrics: Metrics, caplog: pytest.LogCaptureFixture):
    fakes.problem(client_of(failing(Problem(404, "no such thing")), metrics).get("/"), 404)
    assert not [record for record in caplog.records if record.name == "service.calls"]


def test_an_error_after_the_answer_began_is_passed_on(metrics: Metrics):
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("too late")

    with pytest.raises(RuntimeError, match="too late"):
        client_of(app, metrics).get("/")
    assert value(metrics, "requests_in_flight") == 0


@pytest.mark.parametrize(("app", "code"), [(echo, "200"), (failing(Problem(404, "x")), "404")])
def test_requests_are_counted_by_route_and_code(metrics: Metrics, app: ASGIApp, code: str):
    client_of(app, metrics).get("/anything")
    assert value(metrics, "requests_total", endpoint="other", code=code) == 1
    assert value(metrics, "request_duration_seconds_count", endpoint="other") == 1
    assert value(metrics, "requests_in_flight") == 0


def test_a_request_is_in_flight_while_it_is_answered(metrics: Metrics):
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(str(value(metrics, "requests_in_flight")))(scope, receive, send)

    assert client_of(app, metrics).get("/").text == "1.0"


def test_what_is_not_http_passes_through(metrics: Metrics):
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["type"], "state" in scope))

    asyncio.run(
        CallMiddleware(app, metrics, max_body_bytes=LIMIT, timeout=fakes.PATIENCE)({"type": "lifespan"}, None, None)
    )
    assert seen == [("lifespan", False)]


def test_a_client_that_leaves_is_not_an_error_of_the_service(client: TestClient, caplog: pytest.LogCaptureFixture):
    messages = [
        {"type": "http.request", "body": b"half of a pic", "more_body": True},
        {"type": "http.disconnect"},
    ]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/encode", "raw_path": b"/v1/encode", "query_string": b"",
        "headers": [(b"content-type", b"image/png")], "scheme": "http", "root_path": "", "http_version": "1.1",
        "server": ("test", 80), "client": ("test", 1),
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: dict[str, Any]) -> None:
        pass

    client.portal.call(client.app, scope, receive, send)
    assert fakes.sample(client, "facet_requests_total", endpoint="/v1/encode", code="500") == 0
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_stages_add_up_and_are_sent_in_milliseconds(metrics: Metrics):
    call = fakes.call(metrics)
    call.add("infer", 0.001)
    call.add("encode", 0.25)
    call.add("infer", 0.002)
    assert call.server_timing == "infer;dur=3.00, encode;dur=250.00"
    assert value(metrics, "stage_duration_seconds_count", stage="infer") == 2
    assert value(metrics, "stage_duration_seconds_sum", stage="infer") == pytest.approx(0.003)


def test_a_stage_that_fails_is_timed_too(metrics: Metrics):
    call = fakes.call(metrics)
    with pytest.raises(KeyError), call.stage("decode"):
        raise KeyError
    assert call.server_timing.startswith("decode;dur=")


def test_without_stages_there_is_no_timing_header(metrics: Metrics):
    assert "server-timing" not in client_of(echo, metrics).get("/").headers


class Conversation:
    """An ASGI exchange driven by hand: what the client sends, and when it leaves."""

    def __init__(
        self, app: ASGIApp, *, body: list[dict[str, Any]] | None = None, headers: dict[str, str] | None = None
    ):
        self.app, self.sent = app, []
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for message in body or [{"type": "http.request", "body": b"", "more_body": False}]:
            self.incoming.put_nowait(message)
        self.scope = {
            "type": "http", "method": "POST", "path": "/", "raw_path": b"/", "query_string": b"", "scheme": "http",
            "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()], "root_path": "",
        }  # fmt: skip

    async def run(self) -> None:
        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        await self.app(self.scope, self.incoming.get, send)

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})


def play(story: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(fakes.PATIENCE):
            await story

    asyncio.run(bounded())


class Waiting:
    """An application that reads its body and then waits for ever in one stage."""

    def __init__(self, stage: str = "decode") -> None:
        self.stage, self.entered, self.cancelled = stage, asyncio.Event(), False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        try:
            with scope["state"]["call"].stage(self.stage):
                self.entered.set()
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


def wrapped(app: ASGIApp, metrics: Metrics, timeout: float = fakes.PATIENCE) -> CallMiddleware:
    return CallMiddleware(app, metrics, max_body_bytes=LIMIT, timeout=timeout)


def test_a_client_that_leaves_cancels_its_request_in_whatever_stage_it_is(metrics: Metrics):
    async def story() -> None:
        app = Waiting("align")
        conversation = Conversation(wrapped(app, metrics))
        running = asyncio.create_task(conversation.run())
        await app.entered.wait()
        conversation.leave()
        await running
        assert app.cancelled
        assert conversation.sent == []

    play(story())
    assert value(metrics, "requests_cancelled_total", stage="align") == 1
    assert value(metrics, "requests_total", endpoint="other", code="499") == 1
    assert value(metrics, "requests_in_flight") == 0


def test_a_client_that_leaves_while_it_sends_is_counted_there(metrics: Metrics):
    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    async def story() -> None:
        conversation = Conversation(
            wrapped(reading, metrics), body=[{"type": "http.request", "body": b"half", "more_body": True}]
        )
        conversation.leave()
        await conversation.run()

    play(story())
    assert value(metrics, "requests_cancelled_total", stage="body") == 1


def test_a_disconnect_after_the_whole_answer_is_no_cancellation(metrics: Metrics):
    """Servers say so of every request: what the application still does after its answer must be allowed to end."""
    ended = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await PlainTextResponse("done")(scope, receive, send)
        conversation.leave()
        await asyncio.sleep(0.01)
        ended.append(True)

    conversation = Conversation(wrapped(app, metrics))
    play(conversation.run())
    assert ended == [True]
    assert value(metrics, "requests_total", endpoint="other", code="200") == 1


def test_a_server_that_shuts_down_cancels_the_request_and_leaves_nothing_behind(metrics: Metrics):
    async def story() -> None:
        app = Waiting()
        running = asyncio.create_task(Conversation(wrapped(app, metrics)).run())
        await app.entered.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert app.cancelled
        assert asyncio.all_tasks() == {asyncio.current_task(), *_bounded()}

    def _bounded() -> set[asyncio.Task]:
        return {task for task in asyncio.all_tasks() if "bounded" in repr(task.get_coro())}

    play(story())


def test_a_request_may_ask_for_less_time(metrics: Metrics):
    async def story() -> None:
        conversation = Conversation(wrapped(Waiting("align"), metrics), headers={"X-Request-Timeout": "0.02"})
        await conversation.run()
        assert conversation.sent[0]["status"] == 504
        assert b"0.02 s for this request were over in the stage 'align'" in conversation.sent[1]["body"]

    play(story())
    assert value(metrics, "requests_total", endpoint="other", code="504") == 1
    assert value(metrics, "requests_cancelled_total", stage="align") == 0


def test_a_request_may_not_have_more_time_than_the_service_gives(metrics: Metrics):
    async def story() -> None:
        conversation = Conversation(wrapped(Waiting(), metrics, timeout=0.02), headers={"X-Request-Timeout": "1e9"})
        await conversation.run()
        assert conversation.sent[0]["status"] == 504

    play(story())


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf"])
def test_a_senseless_timeout_is_refused(metrics: Metrics, text: str):
    body = fakes.problem(client_of(echo, metrics).post("/", headers={"X-Request-Timeout": text}), 422)
    (error,) = body["errors"]
    assert error == {"field": "X-Request-Timeout", "value": text, "rule": "must be a number of seconds above 0"}


def test_a_body_that_does_not_arrive_is_408(metrics: Metrics):
    async def story() -> None:
        conversation = Conversation(
            wrapped(echo, metrics, timeout=0.02), body=[{"type": "http.request", "body": b"half", "more_body": True}]
        )
        await conversation.run()
        assert conversation.sent[0]["status"] == 408

    play(story())


def test_resources_are_released_however_a_request_ends(metrics: Metrics):
    released = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["call"].resources.callback(released.append, scope["path"])
        if scope["path"] == "/fails":
            raise RuntimeError
        await PlainTextResponse("ok")(scope, receive, send)

    client = client_of(app, metrics)
    client.get("/works")
    client.get("/fails")
    assert released == ["/works", "/fails"]
