"""Bodies, pictures, paths and methods that cannot be served: 400, 404, 405, 413, 415 and 422."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from PIL import Image

from tests.service.api.helpers import WORK
from tests.service.fakes import TestClient, encoded, fields, grey, problem, sample


@pytest.mark.parametrize("content", ["", "{", "{'a': 1}", "\\", '{"attributes":' + "[" * 50_000])
def test_a_body_that_is_no_json_is_400(client: TestClient, content: str):
    response = client.post("/v1/generate", content=content, headers={"Content-Type": "application/json"})
    problem(response, 400)


@pytest.mark.parametrize("value", [[], 1, "text", True])
def test_a_body_that_is_no_object_is_422(client: TestClient, value: Any):
    problem(client.post("/v1/generate", json=value), 422)
    problem(client.post("/v1/edit", json=value), 422)


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/edit"])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (grey(20)[:150], 400),
        (encoded(Image.effect_noise((100, 100), 50), "JPEG")[:1000], 400),
        (b"hello, this is text", 415),
        (encoded(Image.new("L", (16, 16)), "ICO"), 415),
        (grey(20, (600, 400)), 413),
        (grey(20, (300, 100)), 422),
    ],
    ids=["empty", "truncated png", "truncated jpeg", "text", "ico", "too many pixels", "not a framed face"],
)
def test_a_bad_picture_has_the_status_of_its_fault(client: TestClient, path: str, data: bytes, status: int):
    response = client.post(path, files={"image": ("face.png", data)}, data={"attributes": "{}"})
    assert fields(problem(response, status)) == ["image"]


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/edit"])
def test_a_content_type_that_carries_no_picture_is_415(client: TestClient, path: str):
    response = client.post(path, content=b"hello", headers={"Content-Type": "text/plain"})
    assert fields(problem(response, 415)) == ["Content-Type"]


@pytest.mark.parametrize("path", ["/v1/encode", "/v1/edit"])
@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"this is no form"),
        ("multipart/form-data; boundary=x", b"--x\r\nBad Header Here\r\n\r\nhi\r\n--x--\r\n"),
        ("multipart/form-data; boundary=" + "y" * 5000, b"--y"),
    ],
)
def test_a_malformed_form_is_the_clients_fault(client: TestClient, path: str, content_type: str, content: bytes):
    response = client.post(path, content=content, headers={"Content-Type": content_type})
    problem(response, response.status_code)
    assert 400 <= response.status_code < 500


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Starlette leaves half a file open
def test_a_form_that_breaks_off_is_the_clients_fault(client: TestClient):
    content = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nhalf of a pict'
    response = client.post("/v1/encode", content=content, headers={"Content-Type": "multipart/form-data; boundary=x"})
    problem(response, response.status_code)
    assert 400 <= response.status_code < 500
    gc.collect()


PART = b'--x\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n1\r\n'


@pytest.mark.parametrize(
    ("content_type", "content", "field", "rule"),
    [
        ("multipart/form-data", b"", "Content-Type", "must name the boundary between the parts"),
        ("multipart/form-data; boundary=x", b"this is no form", "body", "must be well-formed multipart/form-data"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Type: image/png\r\n\r\nhi\r\n--x--\r\n",
            "body",
            "each part must have a name",
        ),
        (
            "multipart/form-data; boundary=x",
            b"".join(PART % number for number in range(60)) + b"--x--\r\n",
            "body",
            "at most 50 parts are accepted",
        ),
    ],
)
def test_what_is_wrong_with_a_form_is_named(
    client: TestClient, content_type: str, content: bytes, field: str, rule: str
):
    response = client.post("/v1/edit", content=content, headers={"Content-Type": content_type})
    (error,) = problem(response, 400)["errors"]
    assert error["field"] == field
    assert error["rule"].startswith(rule)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "image/png"])
def test_generate_takes_nothing_but_json(client: TestClient, content_type: str):
    response = client.post("/v1/generate", content=b'{"count": 1}', headers={"Content-Type": content_type})
    problem(response, response.status_code)
    assert response.status_code in (415, 422)


def test_an_unknown_path_is_404(client: TestClient):
    problem(client.get("/v1/nothing"), 404)
    problem(client.post("/"), 405)


@pytest.mark.parametrize("path", WORK)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_405_and_says_which_is_allowed(client: TestClient, path: str, method: str):
    response = client.request(method, path)
    problem(response, 405)
    assert response.headers["allow"] == "POST"


def chunks():
    for _ in range(5):
        yield b"{" + b" " * 50_000


BODIES = {
    "/v1/generate": "application/json",
    "/v1/encode": "image/png",
    "/v1/edit": "multipart/form-data; boundary=x",
}


@pytest.mark.parametrize("path", BODIES)
def test_a_body_that_announces_too_much_is_413(client: TestClient, path: str):
    response = client.post(path, content=b"{" + b" " * 200_000, headers={"Content-Type": BODIES[path]})
    assert fields(problem(response, 413)) == ["body"]
    assert sample(client, "facet_requests_rejected_total", reason="body_too_large") == 1


@pytest.mark.parametrize("path", ["/v1/generate", "/v1/encode"])
def test_a_chunked_body_that_grows_too_large_is_413(client: TestClient, path: str):
    response = client.post(path, content=chunks(), headers={"Content-Type": BODIES[path]})
    assert "content-length" not in response.request.headers
    assert fields(problem(response, 413)) == ["body"]


def test_a_chunked_form_that_grows_too_large_is_413(client: TestClient):
    def form():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        yield from chunks()

    response = client.post("/v1/edit", content=form(), headers={"Content-Type": BODIES["/v1/edit"]})
    assert fields(problem(response, 413)) == ["body"]
