"""Forms: the picture is a file, and parameters are fields or blobs."""

from __future__ import annotations

import pytest
from starlette.exceptions import HTTPException

from service.api import uploads
from service.api.uploads import Upload
from service.errors import Problem
from tests.service.api.bodies import Wanted, form, image, part, read, refusal


def test_a_form_gives_the_file_and_the_fields():
    assert read(*form([image()], {"strength": "0.5", "model": "tiny"})) == Upload(
        b"pixels", {"strength": "0.5", "model": "tiny"}
    )


def test_several_pictures_are_refused():
    assert refusal(422, *form([image(), image()]))["field"] == "image"


def test_a_picture_must_be_a_file():
    error = refusal(422, *form(fields={"image": "face.png"}))
    assert error["field"] == "image"
    assert error["value"] == "8 bytes"
    assert error["rule"] == "the part 'image' needs a file name"


# No text, and larger than a form's text may be.
PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 5000


@pytest.mark.parametrize("disposition", ["", "; filename=", '; filename=""'])
@pytest.mark.parametrize("data", [PICTURE, PICTURE[:100]])
def test_a_picture_without_a_file_name_is_refused_and_not_echoed(disposition: str, data: bytes):
    error = refusal(422, *part(f"form-data; name=image{disposition}", data))
    assert error == {
        "field": "image",
        "value": f"{len(data)} bytes",
        "rule": "the part 'image' needs a file name",
    }


@pytest.mark.parametrize(
    "name",
    [
        "UTF-8''face.png",
        "utf-8'en'%e2%82%ac%20face.png",
        "ISO-8859-1''%A3.png",
        "windows-1252''x.png",
        "UTF-8''%22%0d%0a%5c",
        "UTF-8''a%ffb",
    ],
)
@pytest.mark.parametrize("form", ["form-data; name=image; filename*={}", 'Form-Data; FILENAME*={}; name="image"'])
def test_a_file_name_may_be_an_extended_one(name: str, form: str):
    assert read(*part(form.format(name), PICTURE)).image == PICTURE


def test_a_plain_file_name_comes_first():
    disposition = "form-data; name=image; filename=a.png; filename*=UTF-8''b.png"
    assert read(*part(disposition, b"pixels")).image == b"pixels"


def test_a_field_of_a_page_where_no_file_was_chosen_is_no_picture():
    assert read(*part('form-data; name="image"; filename=""', b"")).image is None


def test_text_that_is_a_picture_is_not_echoed():
    content_type, body = form(fields={"model": PICTURE[:300].decode("latin-1")})
    text = read(content_type, body).fields["model"]
    for fields, values in [
        ({"siez": text}, ["300 characters"]),
        ({"size": text, "siez": "iVBORw0KGgo" * 40}, ["300 characters that are no text", "440 characters"]),
    ]:
        with pytest.raises(Problem) as caught:
            Upload(None, fields).parameters(Wanted)
        assert [error["value"] for error in caught.value.errors] == values


def test_a_part_that_is_too_large_is_named():
    error = refusal(413, *part("form-data; name=attributes", bytes(1_100_000)))
    assert error["field"] == "attributes"
    assert "1048576 bytes" in error["rule"]
    assert refusal(413, *part("form-data; name=attributes; filename=blob", bytes(1_100_000), "text/plain")) == error


BLOBS = ["application/json", "Application/JSON; charset=utf-8", "text/plain", "application/octet-stream", None]


@pytest.mark.parametrize("kind", BLOBS)
def test_a_parameter_may_come_as_a_blob(kind: str | None):
    """As `FormData` sends one, and Swagger UI whatever is JSON."""
    text = '{"Smiling": 1, "ü": 0}'
    content_type, body = part("form-data; name=attributes; filename=blob", text.encode(), kind)
    assert read(content_type, body) == Upload(None, {"attributes": text})
    bom = part("form-data; name=attributes; filename=a.json", b"\xef\xbb\xbf{}", kind)
    assert read(*bom).fields == {"attributes": "{}"}


def test_many_parameters_may_come_as_blobs():
    files = [(f"field{i}", ("blob", b"{}", "application/json")) for i in range(20)]
    assert read(*form([image(), *files])).fields == {f"field{i}": "{}" for i in range(20)}


def test_a_blob_that_is_no_text_is_refused_and_not_echoed():
    error = refusal(422, *part("form-data; name=attributes; filename=blob", PICTURE[:100], "application/json"))
    assert (error["field"], error["value"]) == ("attributes", "100 bytes")
    assert error["rule"] == "must be text in UTF-8; a picture is the part 'image'"


def test_empty_fields_of_a_form_are_left_out():
    content_type, body = form([image(), ("latent", ("blob", b"", "application/json"))], {"model": "", "face": "0"})
    assert read(content_type, body) == Upload(b"pixels", {"face": "0"})


def test_only_the_picture_may_be_a_file():
    error = refusal(422, *form([image(), ("mask", ("mask.png", b"m"))]))
    assert error["field"] == "mask"


def test_a_form_without_a_picture_has_none():
    content_type, body = form(fields={"model": "tiny"})
    assert read(content_type, body).image is None


def test_an_empty_file_is_an_empty_picture_and_not_a_missing_one():
    assert read(*form([image(b"")])).image == b""


MALFORMED = [
    ("multipart/form-data", b"--x\r\n\r\n"),
    ("multipart/form-data; boundary=x", b"this is no form"),
    ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nhi\r\n--x--\r\n"),
    ("multipart/form-data; boundary=x", b"--x\r\nBad Header Here\r\n\r\nhi\r\n--x--\r\n"),
    ("multipart/form-data; boundary=x", b"--y\r\nContent-Disposition: form-data; name=a\r\n\r\nhi\r\n--y--\r\n"),
]


@pytest.mark.parametrize(("content_type", "body"), MALFORMED)
def test_a_malformed_form_is_400(content_type: str, body: bytes):
    with pytest.raises((HTTPException, Problem)) as caught:
        read(content_type, body)
    assert (getattr(caught.value, "status_code", None) or caught.value.status) == 400


def test_a_form_with_too_many_fields_is_400():
    error = refusal(400, *form(fields={f"field{i}": "x" for i in range(60)}))
    assert error["rule"] == "at most 50 parts are accepted"


def test_a_form_that_finds_no_room_on_disk_is_503(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(uploads.log, "error", lambda *_: None)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    with pytest.raises(Problem) as caught:
        read(*form([image(bytes(2_000_000))]))
    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"]
    assert read(*form([image(bytes(500_000))])).image == bytes(500_000)  # small ones need no disk
