"""What servers are loaded with: pictures of the right kind, and requests that differ."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.request_formats import Json, JsonBatch, OpenInference, RawBody
from benchmarks.workloads import (
    facet_workloads,
    in_turn,
    kept_slider,
    never_seen,
    photo_edit,
    photograph,
    portrait,
    workloads,
)

BUNDLE = Path(__file__).parents[2] / "bundles" / "celeba64"
MANIFEST = {"attributes": [{"name": "Smiling"}, {"name": "Young"}]}


def test_a_photograph_is_as_large_as_requested_and_has_grain():
    data = photograph(Image.new("RGB", (64, 64), "red"), 400, 300)
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.size) == ("JPEG", (400, 300))
    assert picture.getpixel((175, 125))[0] > 200  # the face
    assert len({picture.getpixel((x, 290)) for x in range(100)}) > 10


def test_portraits_differ_by_seed_and_have_a_photographs_bytes():
    one, other = portrait(0, 178, 218), portrait(1, 178, 218)
    assert one != other
    assert portrait(0, 178, 218) == one
    assert Image.open(io.BytesIO(one)).size == (178, 218)
    assert 5_000 < len(one) < 20_000


def test_no_two_requests_of_a_workload_are_the_same():
    found = facet_workloads(BUNDLE, 4)
    assert {name: len(requests) for name, requests in found.items()} == {"generate": 4, "edit": 4, "mixed": 8}
    assert found["mixed"][:2] == [found["generate"][0], found["edit"][0]]
    assert len({request.payload for request in found["mixed"]}) == 8


@pytest.mark.parametrize("request_format", [RawBody(), Json(), JsonBatch(), OpenInference()], ids=repr)
def test_each_format_carries_a_photograph_and_what_to_change(request_format):
    path, _, body = photo_edit(b"a jpeg", request_format).parts()
    assert "Smiling" in path + body.decode()
    assert b"a jpeg" in body or base64.b64encode(b"a jpeg") in body


@pytest.mark.parametrize("request_format", [RawBody(), Json(), JsonBatch(), OpenInference()], ids=repr)
def test_each_format_carries_the_attribute_and_the_seed(request_format):
    generate = workloads(request_format, MANIFEST, [b"one", b"two"])["generate"]
    _, headers, body = generate[1].parts()
    assert headers["Content-Type"] == "application/json"
    assert "Young" in body.decode()
    assert "Smiling" not in body.decode()
    assert json.loads(body) != json.loads(generate[0].parts()[2])


def test_what_a_model_does_not_offer_is_not_requested():
    attributes = [*MANIFEST["attributes"], {"name": "Bald", "experimental": {"added": "nobody sees it"}}]
    found = workloads(RawBody(), {"attributes": attributes}, [b"picture"] * 6)["mixed"]
    assert not any("Bald" in "".join(map(str, request.parts())) for request in found)


def test_an_edit_of_a_photograph_gets_a_photograph_back():
    path, headers, body = photo_edit(b"jpeg").parts()
    assert path.startswith("/v1/edit?")
    assert (headers["Content-Type"], headers["Accept"], body) == ("image/jpeg", "image/jpeg", b"jpeg")


def test_photographs_differ_in_bytes_and_show_the_same():
    bodies = never_seen(photograph(Image.new("RGB", (8, 8), "red"), 64, 48), 12)
    assert len(set(bodies)) == 12
    pictures = [Image.open(io.BytesIO(body)) for body in bodies]
    assert {picture.size for picture in pictures} == {(64, 48)}
    assert len({picture.tobytes() for picture in pictures}) == 1


def test_a_slider_goes_from_end_to_end_and_back_without_a_value_twice():
    bodies = [json.loads(request.parts()[2]) for request in kept_slider("handle")]
    values = [body["attributes"]["Smiling"] for body in bodies]
    assert {body["photo"] for body in bodies} == {"handle"}
    assert len(set(values)) == len(values)
    top = values.index(max(values))
    assert (values[0], values[top]) == (-1, 1)
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)


def test_sliders_move_at_the_same_time():
    one, other = kept_slider("one", 5), kept_slider("other", 5)
    assert in_turn([one, other]) == [
        one[0],
        other[0],
        one[1],
        other[1],
        one[2],
        other[2],
        one[3],
        other[3],
        one[4],
        other[4],
    ]
