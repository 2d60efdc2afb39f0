"""Calls of the Open Inference Protocol, and what tests read from the responses."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np

from service.bundle.manifest import GraphKind
from service.inference import oip_codec
from service.inference.oip_codec import HEADER_LENGTH, Graph
from tests.service import fakes
from tests.service.fakes import ATTRIBUTES, IMAGE_SIZE, LATENT_SIZE, TestClient

DECODER, ENCODER = "/v2/models/tiny-decoder", "/v2/models/tiny-encoder"


def decoder_inputs(rows: int = 1) -> oip_codec.Arrays:
    latent = np.arange(rows * LATENT_SIZE, dtype=np.float32).reshape(rows, LATENT_SIZE)
    return {"latent": latent, "attributes": np.zeros((rows, len(ATTRIBUTES)), np.float32)}


def encoder_inputs(rows: int = 1) -> oip_codec.Arrays:
    image = np.full((rows, IMAGE_SIZE, IMAGE_SIZE, 3), 7, np.uint8)
    return {"image": image, "attributes": np.full((rows, len(ATTRIBUTES)), np.nan, np.float32)}


def post(
    client: TestClient, path: str, inputs: oip_codec.Arrays, header: dict[str, Any] | None = None, **headers: str
) -> httpx.Response:
    body, length = oip_codec.write(header or {}, "inputs", inputs, list(inputs))
    return client.post(f"{path}/infer", content=body, headers={HEADER_LENGTH: str(length)} | headers)


def outputs(client: TestClient, response: httpx.Response, kind: GraphKind) -> oip_codec.Arrays:
    assert response.status_code == 200, response.text
    text, binary = oip_codec.split(response.content, response.headers.get(HEADER_LENGTH))
    tensors = Graph.of(fakes.model_of(client).manifest, kind).outputs
    return oip_codec.read(oip_codec.parse(text), "outputs", binary, tensors)


def error(response: httpx.Response, status: int) -> str:
    """The message of an error in the protocol's shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert list(body) == ["error"]
    assert "Traceback" not in body["error"]
    return body["error"]
