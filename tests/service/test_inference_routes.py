"""The Open Inference Protocol: through the same batchers as /v1, with its own errors, and with a client of others."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from service import inference_protocol as protocol
from service.bundle import GraphKind
from service.inference_protocol import HEADER_LENGTH, Graph
from service.settings import Settings
from service.version import VERSION
from tests.service import fakes
from tests.service.fakes import ATTRIBUTES, IMAGE_SIZE, LATENT_SIZE, TestClient, sample

DECODER, ENCODER = "/v2/models/tiny-decoder", "/v2/models/tiny-encoder"


def decoder_inputs(rows: int = 1) -> protocol.Arrays:
    latent = np.arange(rows * LATENT_SIZE, dtype=np.float32).reshape(rows, LATENT_SIZE)
    return {"latent": latent, "attributes": np.zeros((rows, len(ATTRIBUTES)), np.float32)}


def encoder_inputs(rows: int = 1) -> protocol.Arrays:
    image = np.full((rows, IMAGE_SIZE, IMAGE_SIZE, 3), 7, np.uint8)
    return {"image": image, "attributes": np.full((rows, len(ATTRIBUTES)), np.nan, np.float32)}


def post(
    client: TestClient, path: str, inputs: protocol.Arrays, header: dict[str, Any] | None = None, **headers: str
) -> httpx.Response:
    body, length = protocol.write(header or {}, "inputs", inputs, list(inputs))
    return client.post(f"{path}/infer", content=body, headers={HEADER_LENGTH: str(length)} | headers)


def outputs(client: TestClient, response: httpx.Response, kind: GraphKind) -> protocol.Arrays:
    assert response.status_code == 200, response.text
    text, binary = protocol.split(response.content, response.headers.get(HEADER_LENGTH))
    tensors = Graph.of(fakes.model_of(client).manifest, kind).outputs
    return protocol.read(protocol.parse(text), "outputs", binary, tensors)


def error(response: httpx.Response, status: int) -> str:
    """The message of an error in the protocol's shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert list(body) == ["error"]
    assert "Traceback" not in body["error"]
    return body["error"]


def test_the_server_says_what_it_is(client: TestClient):
    assert client.get("/v2").json() == {"name": "facet", "version": VERSION, "extensions": ["binary_tensor_data"]}


def test_each_bundle_is_two_models(client: TestClient):
    for kind, inputs in (("encoder", ["image", "attributes"]), ("decoder", ["latent", "attributes"])):
        for path in (f"/v2/models/tiny-{kind}", f"/v2/models/tiny-{kind}/versions/1.2.3"):
            told = client.get(path).json()
            assert told["name"] == f"tiny-{kind}"
            assert [each["name"] for each in told["inputs"]] == inputs
            assert client.get(f"{path}/ready").json()["ready"] is True


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
    asked = {"latents": inputs["latent"].tolist(), "attributes": [0.0] * len(ATTRIBUTES), "format": "png"}
    drawn = client.post("/v1/generate", json=asked, headers={"Accept": "image/png"})
    sheet = np.concatenate(list(found["image"]), axis=1)
    np.testing.assert_array_equal(fakes.pixels(drawn.content), sheet)


def test_outputs_come_as_asked(client: TestClient):
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
        (b"{}" + b" " * 300_000, {}, 413, "at most 200000 bytes"),
    ],
)
def test_a_broken_body_is_refused(client: TestClient, body: bytes, headers: dict[str, str], status: int, words: str):
    assert words in error(client.post(f"{DECODER}/infer", content=body, headers=headers), status)


def test_much_json_is_refused_before_it_is_parsed(client: TestClient, monkeypatch):
    monkeypatch.setattr("service.inference_routes.MAX_JSON_BYTES", 10)
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
    asked = {"latents": [[0.0] * LATENT_SIZE], "attributes": [0.0] * len(ATTRIBUTES)}
    work = [
        lambda: post(client, DECODER, decoder_inputs()),
        lambda: client.post("/v1/generate", json=asked),
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


# With Triton's own client


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a service with the fake runtime, behind the server that it ships with."""
    directory = tmp_path_factory.mktemp("bundles")
    fakes.write_bundle(directory / "tiny")
    app = fakes.application(Settings(bundles=directory, weights=directory, default_model="tiny", codec_threads=2))
    with fakes.listening(app) as address:
        yield address


@pytest.fixture
def triton(address: str) -> Iterator[Any]:
    """tritonclient's HTTP client and its module."""
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    with http.InferenceServerClient(address) as client:
        yield client, http


def tensors(http: Any, inputs: protocol.Arrays, binary: bool = True) -> list[Any]:
    listed = []
    for name, array in inputs.items():
        datatype = {"uint8": "UINT8", "float32": "FP32"}[str(array.dtype)]
        listed.append(http.InferInput(name, list(array.shape), datatype))
        listed[-1].set_data_from_numpy(array, binary_data=binary)
    return listed


def test_tritons_client_finds_server_and_models(triton):
    client, _ = triton
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny-encoder")
    assert client.is_model_ready("tiny-encoder", "1.2.3")
    assert not client.is_model_ready("tiny")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("tiny-decoder")["outputs"][0]["datatype"] == "UINT8"


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_tritons_client_gets_its_tensors(triton, binary_in: bool, binary_out: bool | None):
    client, http = triton
    names = ["mean", "attribute_estimates"]
    wanted = None if binary_out is None else [http.InferRequestedOutput(name, binary_out) for name in names]
    found = client.infer("tiny-encoder", tensors(http, encoder_inputs(3), binary_in), outputs=wanted, request_id="9")
    np.testing.assert_array_equal(found.as_numpy("mean"), np.full((3, LATENT_SIZE), 7, np.float32))
    assert found.as_numpy("attribute_estimates").dtype == np.float32
    assert found.get_response()["id"] == "9"
    assert (found.as_numpy("log_variance") is None) == (wanted is not None)


def test_tritons_client_draws_with_a_version_and_a_timeout(triton):
    client, http = triton
    found = client.infer("tiny-decoder", tensors(http, decoder_inputs(2)), model_version="1.2.3", timeout=5_000_000)
    np.testing.assert_array_equal(found.as_numpy("image")[:, 0, 0, 0], [128, 131])


def test_tritons_client_understands_our_errors(triton):
    client, http = triton
    wrong = decoder_inputs() | {"latent": np.zeros((1, LATENT_SIZE + 1), np.float32)}
    with pytest.raises(http.InferenceServerException, match=r"\[400\] inputs\.latent\.shape: must be \[N, 3\]"):
        client.infer("tiny-decoder", tensors(http, wrong))
    with pytest.raises(http.InferenceServerException, match="there are tiny-encoder, tiny-decoder"):
        client.get_model_metadata("tiny")


def test_tritons_async_client_shares_batches(address: str):
    http = pytest.importorskip("tritonclient.http.aio", reason="tritonclient is not installed")
    from tritonclient.http import InferInput

    async def draw() -> list[Any]:
        async with http.InferenceServerClient(address) as client:
            inputs = tensors(SimpleNamespace(InferInput=InferInput), decoder_inputs())
            return await asyncio.gather(*(client.infer("tiny-decoder", inputs) for _ in range(20)))

    found = asyncio.run(draw())
    assert {int(each.as_numpy("image")[0, 0, 0, 0]) for each in found} == {128}


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


def test_what_is_withheld_is_neither_told_nor_taken(tmp_path, monkeypatch: pytest.MonkeyPatch):
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
        asked = decoder_inputs()
        asked["attributes"][0] = [0.5, 1, 0, 0, 0]
        pictures = []
        for value in (-1.0, 1.0):
            asked["attributes"][0, place] = value
            pictures.append(post(client, DECODER, asked).content)
        assert pictures[0] == pictures[1]
        assert seen[0][0, :place].tolist() == asked["attributes"][0, :place].tolist()
        assert seen[0][0, place] > 0.5  # whoever wears glasses is a man, in this prior


def test_where_all_is_enabled_all_is_told(client: TestClient):
    assert "parameters" not in client.get(ENCODER).json()
