"""A picture and its parameters arrive in several ways and mean the same in each."""

from __future__ import annotations

import gzip
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request

from service.api import uploads
from service.api.uploads import Upload
from service.errors import Problem
from tests.service.api.bodies import Wanted, form, image, read, refusal


@pytest.mark.parametrize(
    "content_type",
    [
        "image/png",
        "IMAGE/PNG",
        "image/jpeg; q=1",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "",
        None,
    ],
)
def test_a_raw_body_is_the_picture_and_the_query_its_parameters(content_type: str | None):
    assert read(content_type, b"\xff\xd8 raw", {"strength": 2}) == Upload(b"\xff\xd8 raw", {"strength": "2"})


def test_no_body_is_no_picture():
    assert read("image/png", b"") == Upload(None, {})


def test_a_query_joins_a_form_and_json():
    assert read(*form([image()]), {"model": "tiny"}).fields["model"] == "tiny"
    assert read("application/json", b"{}", {"model": "tiny"}).fields == {"model": "tiny"}


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "video/mp4", "multipart/mixed; boundary=x"])
def test_another_content_type_is_415_and_says_what_is_accepted(content_type: str):
    error = refusal(415, content_type, b"...")
    assert error["field"] == "Content-Type"
    assert error["value"] == content_type.partition(";")[0]
    assert "multipart/form-data" in error["rule"]
    assert "application/json" in error["rule"]


COMPRESSED = ["gzip", "GZIP", "br", "deflate", "zstd", "identity, gzip", "aws-chunked"]


@pytest.mark.parametrize("how", [uploads.read, uploads.read_json])
@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_compressed_body_is_415_and_says_so(encoding: str, how: Callable[[Request], Awaitable[Upload]]):
    for content_type in ("image/png", "application/json", "multipart/form-data; boundary=x"):
        with pytest.raises(Problem) as caught:
            read(content_type, gzip.compress(b"{}"), encoding=encoding, how=how)
        assert caught.value.status == 415
        assert caught.value.errors[0]["field"] == "Content-Encoding"
        assert caught.value.errors[0]["value"] == encoding.lower()
        assert "Content-Encoding" in caught.value.detail
        assert caught.value.headers == {"Accept-Encoding": "identity"}


@pytest.mark.parametrize("how", [uploads.read, uploads.read_json])
@pytest.mark.parametrize("encoding", ["gzip, chunked", "deflate, chunked", "identity, chunked"])
def test_a_body_that_was_compressed_for_the_transfer_is_415(encoding: str, how: Callable[[Request], Awaitable[Upload]]):
    with pytest.raises(Problem) as caught:
        read("application/json", gzip.compress(b"{}"), how=how, transfer=encoding)
    assert caught.value.status == 415
    assert caught.value.errors[0]["field"] == "Transfer-Encoding"
    assert "chunked" in caught.value.detail


def test_chunks_are_accepted():
    assert read("image/png", b"raw", transfer="Chunked").image == b"raw"


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_an_encoding_that_is_none_is_accepted(encoding: str):
    assert read("image/png", b"raw", encoding=encoding).image == b"raw"


def test_a_parameter_in_two_places_is_refused():
    assert refusal(422, *form([image()], {"model": "a"}), {"model": "b"})["field"] == "model"
    assert refusal(422, "application/json", b'{"model": "a"}', {"model": "b"})["field"] == "model"


def test_a_parameter_given_twice_is_refused():
    assert refusal(422, "image/png", b"x", [("model", "a"), ("model", "b")])["field"] == "model"
    content_type, body = form([image()], {"model": ["a", "b"]})
    assert refusal(422, content_type, body)["field"] == "model"


def test_parameters_are_checked_against_a_schema():
    assert Upload(None, {"size": "3"}).parameters(Wanted).size == 3
    with pytest.raises(Problem) as caught:
        Upload(None, {"siez": "3"}).parameters(Wanted)
    assert (caught.value.status, caught.value.errors[0]["field"]) == (422, "siez")
