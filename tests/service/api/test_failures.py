"""Failures inside the service: 500 and 504."""

from __future__ import annotations

from typing import Any

import pytest

from service.settings import Settings
from tests.service.api.helpers import generate, stages
from tests.service.fakes import FailingRuntime, HeldRuntime, TestClient, grey, model_of, problem, sample, serving


def test_a_deadline_that_passes_is_504(settings: Settings):
    limits = {"request_timeout": 0.02, "max_batch": 1}
    with serving(settings.model_copy(update=limits), HeldRuntime) as client:
        runtime = model_of(client).runtime
        runtime.hold()
        try:
            problem(generate(client, count=4), 504)
        finally:
            runtime.release()
        assert sample(client, "facet_queue_images", graph="decoder") == 0


def test_a_failing_model_is_500_and_keeps_its_secrets(settings: Settings):
    with serving(settings, FailingRuntime) as client:
        model_of(client).runtime.error = ValueError("swordfish")
        response = generate(client)
        problem(response, 500)
        assert "swordfish" not in response.text
        assert sample(client, "facet_inference_errors_total", kind="ValueError") == 1
        model_of(client).runtime.error = None
        assert generate(client).status_code == 200
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/generate"])
def test_an_unexpected_error_is_500_and_keeps_its_secrets(client: TestClient, monkeypatch, path: str):
    def fail(*_: Any) -> None:
        raise RuntimeError("swordfish")

    monkeypatch.setattr(client.app.state.service.models, "all", fail)
    monkeypatch.setattr(client.app.state.service.models, "get", fail)
    response = client.get(path) if path == "/v1/models" else generate(client)
    monkeypatch.undo()
    problem(response, 500)
    assert "swordfish" not in response.text
    assert "RuntimeError" not in response.text
    assert sample(client, "facet_requests_total", endpoint=path, code="500") == 1


def test_errors_have_the_timings_and_the_model_they_got_as_far_as(client: TestClient):
    response = client.post("/v1/encode", content=grey(20, (300, 100)))
    problem(response, 422)
    assert stages(response) == ["decode", "align"]
    assert response.headers["x-facet-model"] == "tiny@1.2.3"


def test_errors_have_the_seed_of_the_faces_that_were_drawn(settings: Settings):
    with serving(settings, FailingRuntime) as client:
        model_of(client).runtime.error = ValueError("broken")
        assert generate(client, seed=7).headers["x-facet-seed"] == "7"
        drawn = generate(client)
        problem(drawn, 500)
        assert int(drawn.headers["x-facet-seed"]) >= 0
        swept = client.post("/v1/sweep", json={"seed": 5, "attribute": "Smiling", "steps": 2})
        problem(swept, 500)
        assert swept.headers["x-facet-seed"] == "5"
        refused = generate(client, count=1000)
        problem(refused, 422)
        assert "x-facet-seed" not in refused.headers
