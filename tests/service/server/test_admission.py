"""What is refused before it is parsed, and what is not, since it may ask for a model that has room."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from service.request import RequestContext
from service.server.admission import AdmissionMiddleware
from service.telemetry.metrics import Metrics

DEFAULT_FULL, ALL_FULL = 3.0, 7.0


class Models:
    """The default model is full, or all are."""

    def __init__(self, default: bool, every: bool) -> None:
        self.default, self.every, self.graphs = default, every, []

    def refusal(self, graph: str, any_model: bool) -> float | None:
        self.graphs.append(graph)
        if any_model:
            return ALL_FULL if self.every else None
        return DEFAULT_FULL if self.default else None


def ask(
    body: bytes = b"{}",
    kind: str = "application/json",
    query: bytes = b"",
    method: str = "POST",
    path: str = "/v1/edit",
    full: tuple[bool, bool] = (True, False),
    length: int | None = None,
    messages: list[Message] | None = None,
) -> tuple[float | None, list[Message]]:
    """The seconds to wait of the refusal, None without one, and what the application received otherwise.

    `full` says if the default model is, and if all are.
    """
    metrics = Metrics(CollectorRegistry())
    context = RequestContext("id", metrics, 30.0)
    headers = {"content-type": kind, "content-length": str(len(body) if length is None else length)}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "state": {"context": context},
    }
    left = messages if messages is not None else [{"type": "http.request", "body": body, "more_body": False}]
    left, count = list(left), len(left)
    received: list[Message] = []
    sent: list[Message] = []

    async def receive() -> Message:
        if not left:
            await asyncio.sleep(60)
        return left.pop(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.extend([await receive() for _ in range(count)])

    async def send(message: Message) -> None:
        sent.append(message)

    models = Models(*full)
    asyncio.run(AdmissionMiddleware(app, models, metrics)(scope, receive, send))
    refused = metrics.registry.get_sample_value("facet_requests_rejected_total", {"reason": "queue_full"}) or 0
    if not sent:
        assert refused == 0
        return None, received
    assert (sent[0]["status"], refused, received) == (429, 1, [])
    assert context.endpoint == path
    return float(dict(sent[0]["headers"])[b"retry-after"]), received


@pytest.mark.parametrize(
    ("path", "kind", "graph"),
    [
        ("/v1/encode", "image/png", "encoder"),
        ("/v1/generate", "application/json", "decoder"),
        ("/v1/edit", "image/png", "editor"),
        ("/v1/edit", "application/json", "decoder"),
        ("/v1/sweep", "multipart/form-data; boundary=x", "editor"),
        ("/v1/sweep", "application/json", "decoder"),
    ],
)
def test_each_call_needs_the_graph_that_its_work_ends_in(
    path: str, kind: str, graph: str, monkeypatch: pytest.MonkeyPatch
):
    found = []
    monkeypatch.setattr(Models, "refusal", lambda self, graph, any_model: found.append(graph))
    ask(path=path, kind=kind)
    assert found == [graph]


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/v1/verify", "/v1/models/tiny:reload"])
def test_what_needs_no_graph_is_let_in(path: str):
    assert ask(path=path, full=(True, True))[0] is None


def test_with_room_nothing_is_looked_at():
    seconds, received = ask(full=(False, False))
    assert seconds is None
    assert received[0]["body"] == b"{}"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_only_work_is_refused(method: str):
    assert ask(method=method)[0] is None


REQUESTS: list[tuple[dict[str, Any], bool]] = [
    ({"body": b'{"seed": 1}'}, False),
    ({"body": b'{"seed": 1, "model": "other"}'}, True),
    ({"body": b'{"\\u006dodel": "other"}'}, True),
    ({"kind": "image/jpeg", "body": b"...model..."}, False),  # a picture names nothing
    ({"kind": "application/octet-stream; x=1"}, False),
    ({"kind": "image/jpeg", "query": b"model=other"}, True),
    ({"kind": "image/jpeg", "query": b"m%6fdel=other"}, True),
    ({"kind": "multipart/form-data; boundary=x", "body": b'name="image"\\'}, False),
    ({"kind": "multipart/form-data; boundary=x", "body": b'name="model"'}, True),
    ({"length": 10**6}, True),  # too large to look at
    ({"messages": [{"type": "http.request", "body": b"{", "more_body": True}]}, True),
]


@pytest.mark.parametrize(("request_", "may_name"), REQUESTS)
def test_whoever_may_name_another_model_is_refused_only_where_all_are_full(request_: dict[str, Any], may_name: bool):
    assert ask(**request_)[0] == (None if may_name else DEFAULT_FULL)
    assert ask(**request_, full=(True, True))[0] == (ALL_FULL if may_name else DEFAULT_FULL)


def test_what_was_looked_at_is_received_again():
    parts = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.request", "body": b"}"}]
    seconds, received = ask(messages=parts)
    assert seconds is None
    assert received == parts


def test_a_body_that_does_not_come_goes_the_usual_way():
    seconds, received = ask(messages=[], length=2)
    assert (seconds, received) == (None, [])


@pytest.mark.parametrize(
    ("full", "seconds"), [({"editor"}, None), ({"decoder"}, None), ({"editor", "decoder"}, DEFAULT_FULL)]
)
def test_json_may_have_a_picture_or_none(full: set[str], seconds: float | None, monkeypatch: pytest.MonkeyPatch):
    """So both what draws from latents and what edits pictures must be full."""
    monkeypatch.setattr(Models, "refusal", lambda self, graph, any_model: DEFAULT_FULL if graph in full else None)
    assert ask()[0] == seconds
