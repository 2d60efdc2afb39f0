"""No room: 429 and 413 where the queue is full."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.settings import Settings
from tests.service import fakes
from tests.service.api.helpers import generate
from tests.service.fakes import PATIENCE, HeldRuntime, TestClient, grey, model_of, problem, sample, serving


def test_more_faces_than_the_queue_ever_holds_are_413(settings: Settings):
    with serving(settings.model_copy(update={"queue_images": 2})) as client:
        problem(generate(client, count=3), 413)


def test_a_full_queue_is_429_with_retry_after(settings: Settings):
    limits = {"queue_images": 2, "max_batch": 1}
    with serving(settings.model_copy(update=limits), HeldRuntime) as client, ThreadPoolExecutor(1) as pool:
        runtime = model_of(client).runtime
        runtime.hold()
        try:
            first = pool.submit(generate, client, count=2, seed=1)  # one runs, one waits
            assert runtime.entered.wait(PATIENCE)
            refused = generate(client, count=2, seed=1)
            healthy = client.get("/healthz")
        finally:
            runtime.release()
        body = problem(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["retry-after"] in body["detail"]
        assert sample(client, "facet_requests_rejected_total", reason="queue_full") == 1
        assert healthy.status_code == 200
        assert first.result(PATIENCE).status_code == 200
        assert generate(client, count=2, seed=1).content == first.result().content


def test_a_queue_without_any_room_refuses_before_the_body_is_looked_at(settings: Settings):
    limits = {"queue_images": 1, "max_batch": 1}
    with serving(settings.model_copy(update=limits), HeldRuntime) as client, ThreadPoolExecutor(2) as pool:
        model = model_of(client)
        model.runtime.hold()
        try:
            running = pool.submit(generate, client, seed=1)
            assert model.runtime.entered.wait(PATIENCE)
            waiting = pool.submit(generate, client, seed=2)
            deadline = time.monotonic() + PATIENCE
            while model.decoder.refusal() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            refused = client.post("/v1/generate", content=b"{", headers={"X-Request-ID": "mine"})
            encoded = client.post("/v1/encode", files={"image": ("face.png", grey(60))})
        finally:
            model.runtime.release()
        body = problem(refused, 429)
        assert body["request_id"] == refused.headers["x-request-id"] == "mine"
        assert int(refused.headers["retry-after"]) >= 1
        assert sample(client, "facet_requests_rejected_total", reason="queue_full") == 1
        assert sample(client, "facet_requests_total", endpoint="/v1/generate", code="429") == 1
        assert encoded.status_code == 200  # the other graph has room
        assert [job.result(PATIENCE).status_code for job in (running, waiting)] == [200, 200]
        assert client.post("/v1/generate", content=b"{").status_code != 429


@pytest.mark.parametrize("graph", ["encoder", "decoder"])
def test_requests_on_their_way_to_a_graph_fill_it(client: TestClient, graph: str):
    batcher, upload = model_of(client).batcher(graph), {"image": ("face.png", grey(60))}
    most = batcher.most_images
    with batcher.reserve(most - 1):
        generated, encoded = generate(client), client.post("/v1/encode", files=upload)
        assert (generated.status_code, encoded.status_code) == (200, 200)
        assert batcher.reserved == most - 1  # what they took they gave back
    with batcher.reserve(most):
        answers = {"decoder": generate(client), "encoder": client.post("/v1/encode", files=upload)}
    refused = answers.pop(graph)
    assert int(refused.headers["retry-after"]) >= 1
    problem(refused, 429)
    assert [answer.status_code for answer in answers.values()] == [200]
    assert sample(client, "facet_requests_rejected_total", reason="queue_full") == 1


def test_a_request_takes_room_for_as_many_images_as_it_will_draw(client: TestClient):
    decoder, upload = model_of(client).decoder, {"image": ("face.png", grey(60))}
    requested = {"attributes": '{"Smiling": 1}'}
    with decoder.reserve(decoder.most_images - 1):
        assert client.post("/v1/edit", files=upload, data=requested | {"output": "face"}).status_code == 200
        problem(client.post("/v1/edit", files=upload, data=requested), 429)  # it draws the face before and after
        problem(generate(client, count=2), 429)
        problem(client.post("/v1/sweep", json={"seed": 1, "attribute": "Smiling", "steps": 2}), 429)
    assert client.post("/v1/edit", files=upload, data=requested).status_code == 200
    assert decoder.reserved == 0


def test_a_full_model_leaves_the_others_their_room(settings: Settings):
    fakes.write_bundle(settings.bundles / "other")
    with serving(settings) as client:
        decoder = model_of(client).decoder
        with decoder.reserve(decoder.most_images):
            problem(generate(client), 429)
            assert generate(client, model="other").status_code == 200


def test_requests_that_fail_release_their_room(client: TestClient):
    problem(client.post("/v1/generate", json={"attributes": {"Smilng": 1}}), 422)
    problem(client.post("/v1/edit", content=b"\xff\xd8\xff", params={"attributes": "{}"}), 400)
    model = model_of(client)
    assert {model.encoder.reserved, model.decoder.reserved} == {0}
