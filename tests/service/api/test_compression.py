"""Texts are compressed for those who accept gzip, if that is worth it."""

from __future__ import annotations

import gzip
import json

import pytest
from starlette.responses import JSONResponse

from service.api.compression import accepts_gzip, packed
from tests.service.fakes import TestClient

LONG = {"numbers": [1.5] * 1000}


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip", "GZIP;q=0.5", "br;q=1.0 , gzip ; q=0.1"])
def test_long_texts_are_compressed(accepted: str):
    response = packed(JSONResponse(LONG), {"accept-encoding": accepted})
    assert response.headers["content-encoding"] == "gzip"
    assert int(response.headers["content-length"]) == len(response.body) < 500
    assert json.loads(gzip.decompress(response.body)) == LONG


@pytest.mark.parametrize("refused", ["", "identity", "br", "gzip;q=0", "gzip;q=0.000", "x-gzip"])
def test_not_for_others(refused: str):
    assert not accepts_gzip({"accept-encoding": refused})
    response = packed(JSONResponse(LONG), {"accept-encoding": refused})
    assert "content-encoding" not in response.headers
    assert response.headers["vary"] == "Accept-Encoding"
    assert json.loads(response.body) == LONG


def test_short_ones_are_not(client: TestClient):
    response = client.get("/v1/models", headers={"Accept-Encoding": "gzip"})
    assert ("content-encoding" in response.headers) == (len(response.content) >= 1000)
    assert packed(JSONResponse({}), {"accept-encoding": "gzip"}).body == b"{}"
