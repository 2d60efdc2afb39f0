"""A request ends at its deadline, and when its client leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from service.telemetry.metrics import Metrics
from tests.service import fakes
from tests.service.fakes import TestClient
from tests.service.server.asgi import Conversation, Waiting, client_of, echo, play, surrounded, value


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


def test_a_client_that_leaves_cancels_its_request_in_whatever_stage_it_is(metrics: Metrics):
    async def story() -> None:
        app = Waiting("align")
        conversation = Conversation(surrounded(app, metrics))
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
            surrounded(reading, metrics), body=[{"type": "http.request", "body": b"half", "more_body": True}]
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

    conversation = Conversation(surrounded(app, metrics))
    play(conversation.run())
    assert ended == [True]
    assert value(metrics, "requests_total", endpoint="other", code="200") == 1


def test_a_server_that_shuts_down_cancels_the_request_and_leaves_nothing_behind(metrics: Metrics):
    async def story() -> None:
        app = Waiting()
        running = asyncio.create_task(Conversation(surrounded(app, metrics)).run())
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
        conversation = Conversation(surrounded(Waiting("align"), metrics), headers={"X-Request-Timeout": "0.02"})
        await conversation.run()
        assert conversation.sent[0]["status"] == 504
        assert b"0.02 s for this request were over in the stage 'align'" in conversation.sent[1]["body"]

    play(story())
    assert value(metrics, "requests_total", endpoint="other", code="504") == 1
    assert value(metrics, "requests_cancelled_total", stage="align") == 0


def test_a_request_may_not_have_more_time_than_the_service_gives(metrics: Metrics):
    async def story() -> None:
        conversation = Conversation(surrounded(Waiting(), metrics, timeout=0.02), headers={"X-Request-Timeout": "1e9"})
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
            surrounded(echo, metrics, timeout=0.02), body=[{"type": "http.request", "body": b"half", "more_body": True}]
        )
        await conversation.run()
        assert conversation.sent[0]["status"] == 408

    play(story())
