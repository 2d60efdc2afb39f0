"""The editor among the graphs: its queue, its health, its samples and its place in the inference protocol."""

from __future__ import annotations

import numpy as np
import pytest

from service.inference.onnx import Arrays
from service.settings import Settings
from tests.fake_runtime import FakeRuntime
from tests.service import fakes
from tests.service.api.editor.conftest import ALL_KNOWN, Recording, edit, sweep
from tests.service.api.helpers import facts
from tests.service.fakes import ATTRIBUTES, EDITOR_SIZE, TestClient, grey, model_of, problem


def test_the_model_tells_of_its_editor(client: TestClient):
    assert facts(client.get("/v1/models/tiny"))["editor_size"] == EDITOR_SIZE


def test_the_editors_queue_holds_up_photographs_alone(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_of(client).editor, "refusal", lambda: 3.0)
    refused = edit(client, grey(100), attributes={"Smiling": 1})
    problem(refused, 429)
    assert refused.headers["retry-after"] == "3"
    problem(sweep(client, grey(100)), 429)
    body = {"latent": [5, 0, 0], "attributes": {}, "source_attributes": ALL_KNOWN}
    assert client.post("/v1/edit", json=body).status_code == 200
    assert client.post("/v1/generate", json={}).status_code == 200
    assert client.post("/v1/encode", content=grey(100)).status_code == 200


def test_the_decoders_queue_does_not_hold_up_photographs(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(model_of(client).decoder, "refusal", lambda *_: 3.0)
    assert edit(client, grey(100), attributes={"Smiling": 1}).status_code == 200
    problem(client.post("/v1/edit", json={"latent": [5, 0, 0], "attributes": {}, "source_attributes": ALL_KNOWN}), 429)


def test_a_worker_that_died_in_the_editor_shows(client: TestClient):
    model_of(client).editor.failure = RuntimeError("gone")
    assert client.get("/healthz").status_code == 503


def test_an_editor_that_edits_otherwise_than_its_export_did_is_refused(settings: Settings):
    class Other(FakeRuntime):
        def editor(self, inputs: Arrays) -> Arrays:
            outputs = super().editor(inputs)
            return outputs | {"residual": -outputs["residual"] - np.float32(0.1)}

    with (
        pytest.raises(ValueError, match=r"editor_samples\.png: the graphs edit other faces"),
        fakes.serving(settings, Other),
    ):
        pass


def test_the_editor_is_a_model_of_the_protocol(client: TestClient):
    told = client.get("/v2/models/tiny-editor").json()
    assert [each["name"] for each in told["outputs"]] == ["mask", "gain", "residual", "flow"]
    image = {"name": "image", "datatype": "UINT8", "shape": [1, EDITOR_SIZE, EDITOR_SIZE, 3]}
    change = {"name": "change", "datatype": "FP32", "shape": [1, len(ATTRIBUTES)], "data": [0.5, 0, 0, 0, 0]}
    requested = {"inputs": [image | {"data": [7] * (3 * EDITOR_SIZE**2)}, change], "outputs": [{"name": "residual"}]}
    (residual,) = client.post("/v2/models/tiny-editor/infer", json=requested).json()["outputs"]
    assert residual["shape"] == [1, EDITOR_SIZE, EDITOR_SIZE, 3]
    assert set(residual["data"]) == {0.125}
    assert fakes.sample(client, "facet_images_total", operation="edit_fields") == 1


def test_at_the_protocol_what_is_disabled_does_not_change(settings: Settings):
    with fakes.serving(settings.model_copy(update={"sensitive_attributes": False}), Recording) as client:
        seen = model_of(client).runtime.seen
        seen.clear()
        image = {"name": "image", "datatype": "UINT8", "shape": [1, EDITOR_SIZE, EDITOR_SIZE, 3]}
        change = {"name": "change", "datatype": "FP32", "shape": [1, len(ATTRIBUTES)], "data": [0.5, 0, 0, 0, 1]}
        requested = {"inputs": [image | {"data": [7] * (3 * EDITOR_SIZE**2)}, change]}
        assert client.post("/v2/models/tiny-editor/infer", json=requested).status_code == 200
        assert seen[0]["change"].tolist() == [[0.5, 0, 0, 0, 0]]
