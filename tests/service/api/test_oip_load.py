"""The Open Inference Protocol under load: deadlines, full queues, readiness, and batches shared with /v1."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx
import pytest

from service.settings import Settings
from tests.service import fakes
from tests.service.api.oip_calls import DECODER, decoder_inputs, error, post
from tests.service.fakes import ATTRIBUTES, LATENT_SIZE, TestClient, sample


@pytest.fixture
def held(settings: Settings) -> Iterator[tuple[TestClient, fakes.HeldRuntime]]:
    runtimes: list[fakes.HeldRuntime] = []

    def held_runtime(manifest) -> fakes.HeldRuntime:
        runtimes.append(fakes.HeldRuntime(manifest))
        return runtimes[-1]

    with fakes.serving(settings, held_runtime) as client:
        runtimes[0].hold()
        yield client, runtimes[0]
        runtimes[0].release()


def test_a_timeout_in_microseconds_is_a_deadline(held: tuple[TestClient, fakes.HeldRuntime]):
    client, _ = held
    assert error(post(client, DECODER, decoder_inputs(), {"parameters": {"timeout": 50_000}}), 504)


def test_a_deadline_in_the_header_holds_here_too(held: tuple[TestClient, fakes.HeldRuntime]):
    client, _ = held
    assert error(post(client, DECODER, decoder_inputs(), **{"X-Request-Timeout": "0.05"}), 504)


def test_a_full_queue_is_429_before_the_body_is_read(held: tuple[TestClient, fakes.HeldRuntime]):
    client, runtime = held
    answers: list[httpx.Response] = []
    threads = [
        threading.Thread(target=lambda rows=rows: answers.append(post(client, DECODER, decoder_inputs(rows))))
        for rows in (1, 8)
    ]
    threads[0].start()
    assert runtime.entered.wait(fakes.PATIENCE)
    threads[1].start()
    fakes.until(lambda: sample(client, "facet_queue_images", graph="decoder") == 8)
    refused = client.post(f"{DECODER}/infer", content=b"not even JSON")
    assert error(refused, 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert sample(client, "facet_requests_rejected_total", reason="queue_full") == 1
    runtime.release()
    for thread in threads:
        thread.join(fakes.PATIENCE)
    assert [answer.status_code for answer in answers] == [200, 200]


def test_health_follows_the_workers(settings: Settings):
    with fakes.serving(settings) as client:
        assert client.get("/v2/health/live").json() == {"live": True}
        assert client.get("/v2/health/ready").json() == {"ready": True}
        fakes.model_of(client).decoder.failure = RuntimeError("gone")
        assert "died" in error(client.get("/v2/health/live"), 503)
        assert error(client.get("/v2/health/ready"), 503)
        assert error(client.get(f"{DECODER}/ready"), 503)


def test_a_service_that_is_not_ready_says_so(client: TestClient):
    client.app.state.service.ready = False
    assert error(client.get("/v2/health/ready"), 503)
    assert error(post(client, DECODER, decoder_inputs()), 503)


def test_v1_and_v2_fill_the_same_batches(held: tuple[TestClient, fakes.HeldRuntime]):
    client, runtime = held
    requested = {"latents": [[0.0] * LATENT_SIZE], "attributes": [0.0] * len(ATTRIBUTES)}
    work = [
        lambda: post(client, DECODER, decoder_inputs()),
        lambda: client.post("/v1/generate", json=requested),
        lambda: post(client, DECODER, decoder_inputs()),
    ]
    threads = [threading.Thread(target=each) for each in work]
    threads[0].start()
    assert runtime.entered.wait(fakes.PATIENCE)
    for thread in threads[1:]:
        thread.start()
    fakes.until(lambda: sample(client, "facet_queue_images", graph="decoder") == 2)
    runtime.release()
    for thread in threads:
        thread.join(fakes.PATIENCE)
    assert sample(client, "facet_batches_total", graph="decoder") == 2
    assert sample(client, "facet_batch_images_sum", graph="decoder") == 3
