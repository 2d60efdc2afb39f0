"""HEAD answers as GET does, without a body, wherever GET is answered."""

from __future__ import annotations

import http.client
import logging

import pytest

from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import TestClient

PAGES = ["/", "/studio/studio.js", "/docs", "/docs/start.js", "/openapi.json"]
VARIES = ("x-request-id", "server-timing")
PLAIN = {"Accept-Encoding": "identity"}  # of a compressed body, the length would be another


def paths(client: TestClient) -> list[str]:
    document = client.get("/openapi.json").json()
    found = [path for path, operations in document["paths"].items() if "get" in operations]
    assert {"/healthz", "/readyz", "/v1/models", "/v2/health/live", "/metrics"} <= set(found)
    described = [path.replace("{name}", "tiny" if path.startswith("/v1") else "tiny-encoder") for path in found]
    return PAGES + [path.replace("{version}", "1.2.3") for path in described]


def test_head_is_get_without_a_body(client: TestClient):
    for path in paths(client):
        got, head = (client.request(method, path, headers=PLAIN) for method in ("GET", "HEAD"))
        assert got.status_code == head.status_code == 200, path
        assert head.content == b""
        plain = [{name: value for name, value in each.headers.items() if name not in VARIES} for each in (got, head)]
        if path == "/metrics":  # whose length has grown
            plain = [{**each, "content-length": "..."} for each in plain]
        assert plain[0] == plain[1], path
        assert int(got.headers["content-length"]) == len(got.content)


@pytest.mark.parametrize(("path", "status"), [("/v1/models/none", 404), ("/v1/edit", 405), ("/nothing", 404)])
def test_errors_have_no_body_either(client: TestClient, path: str, status: int):
    answer = client.head(path)
    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers["content-type"] == "application/problem+json"


def test_metrics_and_logs_know_the_route_and_the_method(client: TestClient, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="service.access"):
        client.head("/v1/models/tiny")
    assert fakes.sample(client, "facet_requests_total", endpoint="/v1/models/{name}", code="200") == 1
    assert "HEAD /v1/models/{name} 200" in [record.getMessage() for record in caplog.records]


def test_a_connection_goes_on_after_a_head(settings: Settings):
    with fakes.listening(fakes.application(settings)) as address:
        connection = http.client.HTTPConnection(address, timeout=fakes.PATIENCE)
        lengths = []
        for method in ("HEAD", "GET", "HEAD", "GET"):
            connection.request(method, "/healthz")
            answer = connection.getresponse()
            assert answer.status == 200
            lengths.append((answer.headers["content-length"], len(answer.read())))
        connection.close()
    assert lengths == [("15", 0), ("15", 15)] * 2


def test_administration_on_its_own_port_answers_head_too(settings: Settings):
    app = fakes.application(settings.model_copy(update={"admin_port": 1}))
    with TestClient(app), TestClient(app.state.administration) as administration:
        for path in ("/healthz", "/readyz", "/metrics"):
            answer = administration.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
