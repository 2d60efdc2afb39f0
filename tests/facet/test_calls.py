"""What is sent for each call."""

from __future__ import annotations

import inspect
import json
from email.message import Message
from email.parser import BytesParser
from types import MappingProxyType

import httpx
import numpy as np
import pytest

from facet import AsyncClient, Client, Face, calls
from service.pipeline import parameters

FACE = Face((0, 0, 1, 1), None, [0.5, -1.0], [0.0, 0.0], {"Smiling": -1.0})
HTTP = httpx.Client(base_url="http://facet.test")


def sent(call: calls.Call) -> tuple[httpx.Request, dict]:
    request = call.request(HTTP)
    return request, json.loads(request.read())


def form(call: calls.Call) -> tuple[httpx.Request, dict[str, bytes]]:
    request = call.request(HTTP)
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message: Message = BytesParser().parsebytes(head + request.read())
    parts = [part for part in message.walk() if not part.is_multipart()]
    return request, {p.get_param("name", header="content-disposition"): p.get_payload(decode=True) for p in parts}


def test_a_picture_is_sent_as_a_form_with_json_text_for_what_has_structure():
    request, fields = form(
        calls.edit(b"picture", {"Smiling": 1}, strength=1.5, face="all", framed=False, model="celeba64")
    )
    assert (request.method, request.url.path) == ("POST", "/v1/edit")
    assert fields == {
        "image": b"picture",
        "attributes": b'{"Smiling": 1}',
        "strength": b"1.5",
        "face": b"all",
        "framed": b"false",
        "model": b"celeba64",
    }


@pytest.mark.parametrize(
    "call", [calls.edit(b"picture", {"Bald": 1}, experimental=True), calls.sweep(b"picture", "Bald", experimental=True)]
)
def test_experiments_are_requested(call: calls.Call):
    assert form(call)[1]["experimental"] == b"true"


def test_without_a_picture_it_is_json_and_what_is_left_out_stays_out():
    request, body = sent(calls.generate({"Smiling": 1, "Male": None}, count=4, seed=7))
    assert request.headers["content-type"] == "application/json"
    assert body == {"attributes": {"Smiling": 1, "Male": None}, "count": 4, "seed": 7, "format": "png"}


def test_an_encoded_face_stands_for_its_latent_and_attributes():
    _, body = sent(calls.edit(FACE, {"Smiling": 1}))
    assert body["latent"] == [0.5, -1.0]
    assert body["source_attributes"] == {"Smiling": -1.0}
    _, body = sent(calls.sweep(FACE, "Smiling", source_attributes={"Smiling": 0}))
    assert body["source_attributes"] == {"Smiling": 0}


def test_numpy_and_other_mappings_and_sequences_can_be_given():
    _, body = sent(
        calls.edit(None, MappingProxyType({"Smiling": np.float32(1)}), latent=np.ones(2), source_attributes=range(3))
    )
    assert body["attributes"] == {"Smiling": 1.0}
    assert body["latent"] == [1.0, 1.0]
    assert body["source_attributes"] == [0, 1, 2]


def test_what_json_cannot_hold_is_refused_by_name():
    with pytest.raises(TypeError, match="of the type object"):
        calls.generate({"Smiling": object()}).request(HTTP)


@pytest.mark.parametrize(
    ("call", "accept"),
    [
        (calls.edit(b"", {}), "image/*"),
        (calls.edit(b"", {}, format="webp"), "image/webp"),
        (calls.edit(b"", {}, output="face"), "application/json"),
        (calls.edit(b"", {}, output="face", face="all", grid=True), "image/png"),
        (calls.edit(FACE, {}), "application/json"),
        (calls.generate(), "application/json"),
        (calls.generate(grid=True, format="jpeg"), "image/jpeg"),
        (calls.sweep(b"", "Smiling"), "image/png"),
        (calls.sweep(b"", "Smiling", layout="animation"), "image/webp"),
        (calls.sweep(b"", "Smiling", layout="animation", format="gif"), "image/gif"),
        (calls.sweep(b"", "Smiling", layout="frames", format="jpeg"), "application/json"),
        (calls.encode(b""), "application/json"),
    ],
)
def test_json_is_requested_only_where_more_than_one_picture_comes_back(call, accept):
    assert call.request(HTTP).headers["accept"] == accept


@pytest.mark.parametrize(
    ("call", "schema"),
    [
        (calls.encode, parameters.EncodeParameters),
        (calls.generate, parameters.GenerateParameters),
        (calls.edit, parameters.EditParameters),
        (calls.sweep, parameters.SweepParameters),
        (calls.verify, parameters.VerifyParameters),
    ],
)
def test_every_parameter_of_the_service_can_be_given(call, schema):
    given = set(inspect.signature(call).parameters)
    # The client sends pictures themselves; handles are for pages.
    assert given - {"image", "grid"} == set(schema.model_fields) - {"photo"}


def test_the_name_of_a_model_is_quoted():
    assert calls.model("a/b c").request(HTTP).url.raw_path == b"/v1/models/a%2Fb%20c"


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("name", ["encode", "generate", "edit", "sweep", "verify", "models", "model"])
def test_both_clients_have_every_call_with_its_parameters_and_words(client, name):
    method, call = getattr(client, name), getattr(calls, name)
    assert method.__doc__ == call.__doc__
    assert list(inspect.signature(method).parameters) == ["self", *inspect.signature(call).parameters]
    assert "Call" not in inspect.signature(method).return_annotation
