"""Tensors on the wire: what is written is read back, and what breaks a rule is named."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from service.bundle.manifest import Manifest, Tensor
from service.inference import oip_codec
from service.inference.oip_codec import Graph, ProtocolError

IMAGE = Tensor(name="image", dtype="uint8", shape=["N", 2, 2, 3])
LATENT = Tensor(name="latent", dtype="float32", shape=["N", 3])
TENSORS = [IMAGE, LATENT]


def arrays(rows: int = 2) -> oip_codec.Arrays:
    rng = np.random.default_rng(rows)
    image = rng.integers(0, 256, (rows, 2, 2, 3), dtype=np.uint8)
    return {"image": image, "latent": rng.standard_normal((rows, 3)).astype(np.float32)}


def read(body: bytes, length: int | None) -> tuple[dict[str, Any], oip_codec.Arrays]:
    text, binary = oip_codec.split(body, None if length is None else str(length))
    header = oip_codec.parse(text)
    return header, oip_codec.read(header, "inputs", binary, TENSORS)


@pytest.mark.parametrize("binary", [(), ("image",), ("latent",), ("image", "latent")])
@pytest.mark.parametrize("rows", [1, 3])
def test_what_is_written_is_read_back_exactly(binary: tuple[str, ...], rows: int):
    header, found = read(*oip_codec.write({"id": "7"}, "inputs", arrays(rows), binary))
    assert header["id"] == "7"
    for name, expected in arrays(rows).items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


def test_bytes_follow_the_json_in_its_order():
    body, length = oip_codec.write({}, "inputs", arrays(1), ("image", "latent"))
    sizes = [tensor["parameters"]["binary_data_size"] for tensor in json.loads(body[:length])["inputs"]]
    assert sizes == [12, 12]
    assert body[length:] == arrays(1)["image"].tobytes() + arrays(1)["latent"].astype("<f4").tobytes()


def test_json_may_be_nested_and_null_is_unknown():
    entry = {"name": "latent", "datatype": "FP32", "shape": [2, 3], "data": [[1, None, 2.5], [0, 0, 0]]}
    found = oip_codec.read({"inputs": [entry]}, "inputs", memoryview(b""), [LATENT])["latent"]
    np.testing.assert_array_equal(found, np.array([[1, np.nan, 2.5], [0, 0, 0]], np.float32))


def test_null_is_as_good_as_nothing():
    body, length = oip_codec.write({"id": None, "outputs": None, "parameters": None}, "inputs", arrays(), ["image"])
    header, binary = oip_codec.parse(body[:length]), memoryview(body)[length:]
    header["inputs"][0]["data"] = header["inputs"][1]["parameters"] = None
    assert set(oip_codec.read(header, "inputs", binary, TENSORS)) == {"image", "latent"}
    assert oip_codec.requested(header, TENSORS) == {"image": False, "latent": False}
    assert oip_codec.seconds(header) == math.inf


def test_a_number_too_large_for_its_type_becomes_infinite():
    entry = {"name": "latent", "datatype": "FP32", "shape": [1, 3], "data": [1e300, 0, 0]}
    found = oip_codec.read({"inputs": [entry]}, "inputs", memoryview(b""), [LATENT])["latent"]
    assert math.isinf(found[0, 0])


GOOD = {"name": "latent", "datatype": "FP32", "shape": [1, 3], "data": [1.0, 2.0, 3.0]}
SIZED = {"name": "latent", "datatype": "FP32", "shape": [1, 3], "parameters": {"binary_data_size": 12}}


@pytest.mark.parametrize(
    ("entry", "field", "rule"),
    [
        (GOOD | {"datatype": "FP64"}, "inputs.latent.datatype", "must be FP32"),
        (GOOD | {"datatype": ["FP32"]}, "inputs.latent.datatype", "must be FP32"),
        (GOOD | {"shape": [1, 4]}, "inputs.latent.shape", "[N, 3]"),
        (GOOD | {"shape": [3]}, "inputs.latent.shape", "[N, 3]"),
        (GOOD | {"shape": [0, 3], "data": []}, "inputs.latent.shape", "at least 1"),
        (GOOD | {"shape": [-1, 3]}, "inputs.latent.shape", "[N, 3]"),
        (GOOD | {"shape": [True, 3]}, "inputs.latent.shape", "[N, 3]"),
        (GOOD | {"shape": [1.0, 3]}, "inputs.latent.shape", "[N, 3]"),
        (GOOD | {"shape": "1,3"}, "inputs.latent.shape", "[N, 3]"),
        (GOOD | {"shape": [10**30, 3]}, "inputs.latent.data", f"{3 * 10**30} numbers"),
        (GOOD | {"data": [1, 2]}, "inputs.latent.data", "3 numbers"),
        (GOOD | {"data": [[1], [2], [3]]}, "inputs.latent.data", "as the shape says"),
        (GOOD | {"data": [[1, 2], [3]]}, "inputs.latent.data", "equal lengths"),
        (GOOD | {"data": ["1", "2", "3"]}, "inputs.latent.data", "must be numbers"),
        (GOOD | {"data": [True, False, True]}, "inputs.latent.data", "must be numbers"),
        (GOOD | {"data": [10**400, 0, 0]}, "inputs.latent.data", "must be numbers"),
        (GOOD | {"data": [{}, 0, 0]}, "inputs.latent.data", "must be numbers"),
        (GOOD | {"data": "AAAA"}, "inputs.latent.data", "a list of numbers"),
        (GOOD | {"data": None}, "inputs.latent.data", "a list of numbers"),
        (GOOD | {"parameters": 1}, "inputs.latent.parameters", "a JSON object"),
        (
            GOOD | {"parameters": {"shared_memory_region": "r"}},
            "inputs.latent.parameters.shared_memory_region",
            "is not supported",
        ),
        (SIZED | {"data": [1, 2, 3]}, "inputs.latent.data", "together with binary_data_size"),
        (SIZED, "inputs.latent", "has 12 bytes; 0 are left"),
        (SIZED | {"shape": [10**30, 3]}, "inputs.latent.parameters.binary_data_size", f"must be {12 * 10**30}"),
        (SIZED | {"parameters": {"binary_data_size": 11}}, "inputs.latent.parameters.binary_data_size", "must be 12"),
        (SIZED | {"parameters": {"binary_data_size": 12.0}}, "inputs.latent.parameters.binary_data_size", "must be 12"),
        (SIZED | {"parameters": {"binary_data_size": "12"}}, "inputs.latent.parameters.binary_data_size", "must be 12"),
        (GOOD | {"name": "latents"}, "inputs.0.name", "must be one of latent"),
        (GOOD | {"name": {}}, "inputs.0.name", "must be one of latent"),
        ("latent", "inputs.0.name", "must be one of latent"),
    ],
)
def test_a_broken_tensor_is_named(entry: Any, field: str, rule: str):
    with pytest.raises(ProtocolError) as caught:
        oip_codec.read({"inputs": [entry]}, "inputs", memoryview(b""), [LATENT])
    assert caught.value.field == field
    assert rule in caught.value.rule


@pytest.mark.parametrize("value", [-1, 256, 0.5, None, 10**20])
def test_pixels_are_whole_numbers_from_0_to_255(value: Any):
    entry = {"name": "image", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": [value] + [0] * 11}
    with pytest.raises(ProtocolError, match=r"inputs\.image\.data: must be whole numbers from 0 to 255"):
        oip_codec.read({"inputs": [entry]}, "inputs", memoryview(b""), [IMAGE])


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({}, "inputs: must be a list of tensors; there are latent"),
        ({"inputs": []}, "inputs: must be a list of tensors"),
        ({"inputs": {"latent": GOOD}}, "inputs: must be a list of tensors"),
        ({"inputs": [GOOD, GOOD]}, r"inputs\.1\.name: stands twice"),
    ],
)
def test_a_broken_list_of_tensors_is_named(header: dict[str, Any], words: str):
    with pytest.raises(ProtocolError, match=words):
        oip_codec.read(header, "inputs", memoryview(b""), [LATENT])


def test_bytes_that_belong_to_nothing_are_refused():
    with pytest.raises(ProtocolError, match="body: 1 bytes belong to none of the inputs"):
        oip_codec.read({"inputs": [SIZED]}, "inputs", memoryview(b"\0" * 13), [LATENT])


def test_a_missing_tensor_and_unequal_rows_are_refused():
    with pytest.raises(ProtocolError, match=r"inputs\.image: is required"):
        oip_codec.read({"inputs": [GOOD]}, "inputs", memoryview(b""), TENSORS)
    body, length = oip_codec.write({}, "inputs", arrays() | {"latent": arrays(3)["latent"]}, ["image", "latent"])
    with pytest.raises(ProtocolError, match=r"inputs\.image\.shape: .* found image 2, latent 3"):
        read(body, length)


@pytest.mark.parametrize("length", ["", "x", "-1", "0", "6", "1e3", "²", "9" * 5000])
def test_a_header_length_outside_the_body_is_refused(length: str):
    with pytest.raises(ProtocolError, match="Inference-Header-Content-Length: must be 1 to 5"):
        oip_codec.split(b"{}\0\0\0", length)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_what_is_no_json_object_is_refused(text: bytes):
    with pytest.raises(ProtocolError, match="body: must be"):
        oip_codec.parse(text)


def test_outputs_are_all_by_default_and_each_may_come_in_bytes():
    def requested(**header: Any) -> dict[str, bool]:
        return oip_codec.requested(header, TENSORS)

    assert requested() == {"image": False, "latent": False}
    assert requested(parameters={"binary_data_output": True}) == {"image": True, "latent": True}
    one = [{"name": "latent", "parameters": {"binary_data": False}}]
    assert requested(outputs=one, parameters={"binary_data_output": True}) == {"latent": False}


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ({"outputs": [{"name": "picture"}]}, "outputs.0.name"),
        ({"outputs": [{"name": "image"}, {"name": "image"}]}, "outputs.1.name"),
        ({"outputs": [{"name": "image", "parameters": {"binary_data": 1}}]}, "outputs.image.parameters.binary_data"),
        (
            {"outputs": [{"name": "image", "parameters": {"classification": 3}}]},
            "outputs.image.parameters.classification",
        ),
        ({"outputs": "image"}, "outputs"),
        ({"parameters": []}, "body.parameters"),
        ({"parameters": {"binary_data_output": "yes"}}, "parameters.binary_data_output"),
    ],
)
def test_a_broken_wish_for_outputs_is_named(header: dict[str, Any], field: str):
    with pytest.raises(ProtocolError) as caught:
        oip_codec.requested(header, TENSORS)
    assert caught.value.field == field


def test_a_timeout_is_in_microseconds():
    assert oip_codec.seconds({}) == math.inf
    assert oip_codec.seconds({"parameters": {"timeout": 1_500_000}}) == 1.5
    for wrong in (0, -1, "1", 1.5, True):
        with pytest.raises(ProtocolError, match=r"parameters\.timeout"):
            oip_codec.seconds({"parameters": {"timeout": wrong}})


def test_metadata_say_what_the_manifest_says(manifest: Manifest):
    told = Graph.of(manifest, "encoder").metadata()
    assert told["name"] == "tiny-encoder"
    assert told["versions"] == ["1.2.3"]
    assert told["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8, 3]},
        {"name": "attributes", "datatype": "FP32", "shape": [-1, 5]},
    ]
    assert [each["name"] for each in told["outputs"]] == ["mean", "log_variance", "attribute_estimates"]
