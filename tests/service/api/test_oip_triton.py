"""The Open Inference Protocol with Triton's own client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service.inference import oip_codec
from service.settings import Settings
from tests.service import fakes
from tests.service.api.oip_calls import decoder_inputs, encoder_inputs
from tests.service.fakes import LATENT_SIZE


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


def tensors(http: Any, inputs: oip_codec.Arrays, binary: bool = True) -> list[Any]:
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
