"""The service behind Ray Serve's proxy: the same answers, from replicas that Ray started."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from benchmarks.processes import free_port
from service.provenance import marking
from tests.facet_ray.conftest import ROOT, painted

serve = pytest.importorskip("ray.serve", reason="Ray Serve is not installed (extra ray)")


@pytest.fixture(scope="module")
def client(cluster: Any) -> Iterator[httpx.Client]:
    """A client of two replicas behind the proxy."""
    from facet_ray.serve import Options, application

    port = free_port()
    # The settings of the replicas are those of their environment.
    variables = {"FACET_BUNDLES": str(ROOT / "bundles"), "FACET_WEIGHTS": "none", "FACET_MAX_BATCH": "8"}
    app = application(Options(replicas=2, cpus=0.5, variables=variables))
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(app, name="facet")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        yield client
    serve.shutdown()


def test_ray_runs_the_replicas_that_were_requested(client: httpx.Client):
    (deployment,) = serve.status().applications["facet"].deployments.values()
    assert dict(deployment.replica_states) == {"RUNNING": 2}


def test_every_replica_draws_the_same_faces(client: httpx.Client):
    requested = {"attributes": {"Smiling": 1}, "seed": 5}
    answers = [client.post("/v1/generate", json=requested) for _ in range(6)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


def test_a_photograph_is_edited_and_marked(client: httpx.Client):
    (data,) = painted(1)
    answer = client.post("/v1/edit", params={"attributes": '{"Smiling": 1}'}, content=data)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-facet-model"].startswith("celeba128@")
    assert "infer;dur=" in answer.headers["server-timing"]
    assert marking.examine(answer.content, 10**6).facet


def test_errors_deadlines_and_the_other_protocol_pass_through(client: httpx.Client):
    wrong = client.post("/v1/generate", json={"attributes": {"Smilng": 1}}, headers={"X-Request-ID": "mine"})
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
    assert wrong.headers["x-request-id"] == wrong.json()["request_id"]
    late = client.post("/v1/generate", json={"attributes": {}}, headers={"X-Request-Timeout": "0.000001"})
    assert late.status_code in (408, 504)
    assert client.get("/v2/models/celeba64-decoder/ready").json()["ready"] is True
    assert client.get("/readyz").status_code == 200


def test_the_command_serve_run_can_build_it():
    from facet_ray.serve import Options, application

    (parameter,) = inspect.signature(application).parameters.values()
    assert parameter.annotation is Options  # else Ray hands over a dictionary
    assert Options.model_validate({"replicas": "4"}).replicas == 4


def test_options_are_checked():
    from facet_ray.serve import Options

    for wrong in ({"replicas": 0}, {"replica": 2}, {"gpus": -1}):
        with pytest.raises(ValidationError):
            Options(**wrong)
