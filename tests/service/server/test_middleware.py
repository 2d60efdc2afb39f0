"""Every request has an id, timings, a size limit, metrics, and an answer."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import Problem
from service.telemetry import logs
from service.telemetry.metrics import Metrics
from tests.service import fakes
from tests.service.server.asgi import client_of, echo, surrounded, value


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


def test_facts_of_the_request_are_sent(metrics: Metrics):
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        context = scope["state"]["context"]
        context.model, context.seed, context.warning = "tiny@1.0.0", 0, "the file ends early"
        context.ignored_attributes |= dict.fromkeys(["Chubby", "Blurry", "Chubby"])
        await echo(scope, receive, send)

    sent = client_of(app, metrics).get("/").headers
    assert (sent["x-facet-model"], sent["x-facet-seed"]) == ("tiny@1.0.0", "0")
    assert sent["x-facet-warning"] == "the file ends early"
    assert sent["x-facet-ignored-attributes"] == "Chubby, Blurry"


def test_facts_that_are_not_known_are_not_sent(metrics: Metrics):
    assert not [name for name in client_of(echo, metrics).get("/").headers if name.startswith("x-facet-")]


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
    (line,) = [line for line in map(json.loads, lines) if line["logger"] == "service.api.problems"]
    assert line["request_id"] == "id-9"
    assert line["stack"].endswith("RuntimeError: swordfish")


def test_a_problem_keeps_its_status_and_is_no_news_for_the_log(metrics: Metrics, caplog: pytest.LogCaptureFixture):
    fakes.problem(client_of(failing(Problem(404, "no such thing")), metrics).get("/"), 404)
    assert not [record for record in caplog.records if record.name == "service.server.middleware"]


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

    asyncio.run(surrounded(app, metrics)({"type": "lifespan"}, None, None))
    assert seen == [("lifespan", False)]


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


def test_resources_are_released_however_a_request_ends(metrics: Metrics):
    released = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["context"].resources.callback(released.append, scope["path"])
        if scope["path"] == "/fails":
            raise RuntimeError
        await PlainTextResponse("ok")(scope, receive, send)

    client = client_of(app, metrics)
    client.get("/works")
    client.get("/fails")
    assert released == ["/works", "/fails"]
