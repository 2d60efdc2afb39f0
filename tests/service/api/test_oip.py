"""The Open Inference Protocol: through the same batchers as /v1, with its own errors, and with a client of others."""

from __future__ import annotations

import json

import numpy as np
import pytest

from service.inference.oip_codec import HEADER_LENGTH
from service.settings import Settings
from service.system import VERSION
from tests.service import fakes
from tests.service.api.oip_calls import DECODER, ENCODER, decoder_inputs, encoder_inputs, error, outputs, post
from tests.service.fakes import ATTRIBUTES, IMAGE_SIZE, LATENT_SIZE, TestClient, sample


def test_the_server_says_what_it_is(client: TestClient):
    assert client.get("/v2").json() == {"name": "facet", "version": VERSION, "extensions": ["binary_tensor_data"]}


def test_each_bundle_is_two_models(client: TestClient):
    for kind, inputs in (("encoder", ["image", "attributes"]), ("decoder", ["latent", "attributes"])):
        for path in (f"/v2/models/tiny-{kind}", f"/v2/models/tiny-{kind}/versions/1.2.3"):
            told = client.get(path).json()
            assert told["name"] == f"tiny-{kind}"
            assert [each["name"] for each in told["inputs"]] == inputs
            assert client.get(f"{path}/ready").json()["ready"] is True


def test_a_learned_prior_is_a_model_too(settings: Settings, tmp_path):
    fakes.write_bundle(tmp_path / "learned" / "tiny", schema=2, prior=True)
    with fakes.serving(settings.model_copy(update={"bundles": tmp_path / "learned"})) as client:
        noise, known = np.ones((2, LATENT_SIZE), np.float32), np.ones((2, len(ATTRIBUTES)), np.float32)
        answer = post(client, "/v2/models/tiny-prior", {"noise": noise, "attributes": known})
        assert outputs(client, answer, "prior")["latent"].tolist() == [[5, 5, 5]] * 2
        assert sample(client, "facet_images_total", operation="draw_latents") == 2


@pytest.mark.parametrize("rest", ["", "/ready", "/versions/1.2.3", "/versions/1.2.3/ready"])
@pytest.mark.parametrize("name", ["tiny", "tiny-", "other-encoder", "tiny-encoder-decoder", "Tiny-encoder"])
def test_an_unknown_model_is_404_and_the_known_ones_are_named(client: TestClient, name: str, rest: str):
    assert "tiny-encoder, tiny-decoder" in error(client.get(f"/v2/models/{name}{rest}"), 404)


def test_an_unknown_version_is_404(client: TestClient):
    assert "there is 1.2.3" in error(client.get(f"{ENCODER}/versions/1"), 404)
    assert "there is 1.2.3" in error(post(client, f"{ENCODER}/versions/1", encoder_inputs()), 404)


def test_errors_of_paths_and_methods_have_the_protocols_shape_here_and_only_here(client: TestClient):
    assert error(client.get("/v2/nothing"), 404)
    assert error(client.get(f"{DECODER}/infer"), 405)
    fakes.problem(client.get("/v2x"), 404)
    fakes.problem(client.get("/v1/nothing"), 404)


def test_the_encoder_gives_all_its_outputs(client: TestClient):
    found = outputs(client, post(client, ENCODER, encoder_inputs(3)), "encoder")
    np.testing.assert_array_equal(found["mean"], np.full((3, LATENT_SIZE), 7, np.float32))
    np.testing.assert_array_equal(found["log_variance"], np.zeros((3, LATENT_SIZE)))
    np.testing.assert_array_equal(found["attribute_estimates"], np.full((3, len(ATTRIBUTES)), 0.25))


def test_the_decoder_draws_as_v1_does(client: TestClient):
    inputs = decoder_inputs(2)
    found = outputs(client, post(client, DECODER, inputs, {"parameters": {"binary_data_output": True}}), "decoder")
    requested = {"latents": inputs["latent"].tolist(), "attributes": [0.0] * len(ATTRIBUTES), "format": "png"}
    drawn = client.post("/v1/generate", json=requested, headers={"Accept": "image/png"})
    sheet = np.concatenate(list(found["image"]), axis=1)
    np.testing.assert_array_equal(fakes.pixels(drawn.content), sheet)


def test_outputs_come_as_requested(client: TestClient):
    wish = [{"name": "mean", "parameters": {"binary_data": True}}, {"name": "attribute_estimates"}]
    response = post(client, ENCODER, encoder_inputs(), {"id": "abc", "outputs": wish})
    length = int(response.headers[HEADER_LENGTH])
    told = json.loads(response.content[:length])
    assert (told["id"], told["model_name"], told["model_version"]) == ("abc", "tiny-encoder", "1.2.3")
    mean, estimates = told["outputs"]
    assert mean["parameters"] == {"binary_data_size": 4 * LATENT_SIZE}
    assert estimates["data"] == [0.25] * len(ATTRIBUTES)
    assert len(response.content) == length + 4 * LATENT_SIZE


def test_all_in_json_as_curl_would_send_it(client: TestClient):
    inputs = [
        {"name": "latent", "datatype": "FP32", "shape": [1, LATENT_SIZE], "data": [[5, 0, 0]]},
        {"name": "attributes", "datatype": "FP32", "shape": [1, len(ATTRIBUTES)], "data": [0] * len(ATTRIBUTES)},
    ]
    response = client.post(f"{DECODER}/versions/1.2.3/infer", json={"inputs": inputs})
    assert HEADER_LENGTH not in response.headers
    (image,) = response.json()["outputs"]
    assert image["shape"] == [1, IMAGE_SIZE, IMAGE_SIZE, 3]
    assert set(image["data"]) == {133}


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (DECODER, "latent", np.nan),
        (DECODER, "latent", np.inf),
        (DECODER, "attributes", np.nan),
        (ENCODER, "attributes", np.inf),
    ],
)
def test_what_a_graph_cannot_take_is_named(client: TestClient, path: str, name: str, value: float):
    inputs = decoder_inputs() if path == DECODER else encoder_inputs()
    inputs[name][0, 0] = value
    assert error(post(client, path, inputs), 400).startswith(f"inputs.{name}: must be finite")


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"", {}, 400, "body: must begin with valid JSON"),
        (b"{}", {}, 400, "inputs: must be a list of tensors; there are latent, attributes"),
        (b"{}", {HEADER_LENGTH: "3"}, 400, f"{HEADER_LENGTH}: must be 1 to 2"),
        (b"{}", {"Content-Encoding": "gzip"}, 415, "must not be compressed"),
        (b"{}", {"Content-Encoding": "Identity"}, 400, "inputs"),
        (b"{}", {"Transfer-Encoding": "gzip, chunked"}, 415, "must not be compressed"),
        (b"{}" + b" " * 300_000, {}, 413, "at most 200000 bytes"),
    ],
)
def test_a_broken_body_is_refused(client: TestClient, body: bytes, headers: dict[str, str], status: int, words: str):
    assert words in error(client.post(f"{DECODER}/infer", content=body, headers=headers), status)


def test_much_json_is_refused_before_it_is_parsed(client: TestClient, monkeypatch):
    monkeypatch.setattr("service.api.oip.MAX_JSON_BYTES", 10)
    assert HEADER_LENGTH in error(client.post(f"{DECODER}/infer", content=b"{}" + b" " * 20), 413)


def test_a_broken_id_is_refused(client: TestClient):
    for wrong in (5, "x" * 300):
        assert error(post(client, DECODER, decoder_inputs(), {"id": wrong}), 400).startswith("id: ")


def test_more_images_than_a_queue_holds_are_413(client: TestClient):
    assert "the queue holds 8" in error(post(client, DECODER, decoder_inputs(9)), 413)


def test_it_counts_as_v1_does(client: TestClient):
    post(client, DECODER, decoder_inputs(3))
    post(client, ENCODER, encoder_inputs())
    post(client, ENCODER, decoder_inputs())
    infer = "/v2/models/{name}/infer"
    assert sample(client, "facet_requests_total", endpoint=infer, code="200") == 2
    assert sample(client, "facet_requests_total", endpoint=infer, code="400") == 1
    assert sample(client, "facet_images_total", operation="decode") == 3
    assert sample(client, "facet_images_total", operation="encode") == 1
    assert sample(client, "facet_batches_total", graph="decoder") == 1


def test_responses_name_the_model_and_the_stages(client: TestClient):
    response = post(client, DECODER, decoder_inputs())
    assert response.headers["x-facet-model"] == "tiny@1.2.3"
    assert "infer;dur=" in response.headers["server-timing"]


def test_the_document_describes_the_protocols_errors(client: TestClient):
    paths = client.get("/openapi.json").json()["paths"]
    served = {path: operations for path, operations in paths.items() if path.startswith("/v2")}
    assert {"/v2", "/v2/health/ready", "/v2/models/{name}", "/v2/models/{name}/versions/{version}/infer"} <= set(served)
    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        assert set(served[path]["post"]["responses"]) >= {"200", "400", "404", "413", "415", "429", "503", "504"}
    for operations in served.values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                assert int(status) < 400 or set(response["content"]) == {"application/json"}, (status, response)


def test_what_is_disabled_is_neither_told_nor_taken(tmp_path, monkeypatch: pytest.MonkeyPatch):
    fakes.write_bundle(tmp_path / "tiny")
    settings = Settings(bundles=tmp_path, default_model="tiny", sensitive_attributes=False)
    place = ATTRIBUTES.index("Male")
    with fakes.serving(settings) as client:
        assert client.get(ENCODER).json()["parameters"] == {"withheld_attributes": "Male"}
        told = outputs(client, post(client, ENCODER, encoder_inputs()), "encoder")["attribute_estimates"]
        assert told[0].tolist() == [0.0 if row == place else 0.25 for row in range(len(ATTRIBUTES))]
        model, seen = fakes.model_of(client), []
        decode = model.decode
        monkeypatch.setattr(model, "decode", lambda latent, a, call: (seen.append(a), decode(latent, a, call))[1])
        requested = decoder_inputs()
        requested["attributes"][0] = [0.5, 1, 0, 0, 0]
        pictures = []
        for value in (-1.0, 1.0):
            requested["attributes"][0, place] = value
            pictures.append(post(client, DECODER, requested).content)
        assert pictures[0] == pictures[1]
        assert seen[0][0, :place].tolist() == requested["attributes"][0, :place].tolist()
        assert seen[0][0, place] > 0.5  # whoever wears glasses is a man, in this prior


def test_where_all_is_enabled_all_is_told(client: TestClient):
    assert "parameters" not in client.get(ENCODER).json()
