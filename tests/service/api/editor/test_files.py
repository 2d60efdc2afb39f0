"""The files of edited photographs: those of unchanged ones, qualities, metadata, and uploads that are cut."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from service.imaging import xmp
from service.imaging.codecs import encoding
from tests.service.api.editor.conftest import CENTRE, edit, noise, sweep
from tests.service.fakes import TestClient, encoded, pixels, problem

ANY = {"Accept": "*/*"}
WARNING = "x-facet-warning"
NOTHING = [{"attributes": {"Smiling": 1}, "strength": 0}, {"attributes": {"Smiling": 0.25}}]


def photograph(kind: str, **options) -> bytes:
    return encoded(Image.fromarray(noise()), kind, **options)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("params", NOTHING)
@pytest.mark.parametrize(
    "data",
    [
        photograph("JPEG", quality=98, subsampling=0),
        photograph("JPEG", quality=60, progressive=True),
        photograph("WEBP", quality=60),
        photograph("WEBP", lossless=True),
        photograph("PNG"),
    ],
    ids=["JPEG", "progressive", "WebP", "lossless", "PNG"],
)
def test_an_edit_that_changes_nothing_gives_the_upload_with_the_mark(client: TestClient, data: bytes, params: dict):
    response = edit(client, data, ANY, **params)
    assert response.headers["content-type"] == f"image/{opened(data).format.lower()}"
    assert np.array_equal(pixels(response.content), pixels(data))
    mark = xmp.read(opened(response.content), response.content)
    assert mark.digital_source_type.endswith("compositeWithTrainedAlgorithmicMedia")
    assert len(response.content) < len(data) + 2000


@pytest.mark.parametrize("asked", NOTHING)
def test_where_no_file_like_the_upload_can_be_written_it_is_one_without_loss(client: TestClient, asked: dict):
    data = photograph("AVIF", quality=80)
    found = edit(client, data, ANY, **asked)
    assert found.headers["content-type"] == "image/png"
    assert np.array_equal(pixels(found.content), pixels(data))
    assert edit(client, data, ANY, attributes={"Smiling": 1}).headers["content-type"] == "image/jpeg"
    assert edit(client, data, ANY, quality=50, **asked).headers["content-type"] == "image/jpeg"


def test_an_edit_that_changes_nothing_turns_nothing(client: TestClient):
    told = Image.Exif()
    told[0x0112], told[0x010F] = 6, "a camera"
    data = encoded(Image.fromarray(noise()).rotate(90, expand=True), "JPEG", quality=98, exif=told)
    found = opened(edit(client, data, ANY, framed=True, **NOTHING[0]).content)
    assert np.array_equal(found, opened(data))
    assert dict(found.getexif()) == {0x0112: 6}


def test_an_edited_jpeg_keeps_its_tables_and_its_subsampling(client: TestClient):
    data = photograph("JPEG", quality=97, subsampling=0)
    found = opened(edit(client, data, ANY, attributes={"Smiling": 1}).content)
    assert found.quantization == opened(data).quantization
    assert found.layer[0][1:3] == (1, 1)
    changed = abs(np.asarray(found).astype(int) - pixels(data)).max(axis=2)
    assert changed[CENTRE] > 40
    assert changed[:20].max() < 8  # rounded once more


def test_an_edited_lossless_webp_changes_nothing_outside_the_mask(client: TestClient):
    found = pixels(edit(client, photograph("WEBP", lossless=True), ANY, attributes={"Smiling": 1}).content)
    assert np.array_equal(found[:20], noise()[:20])
    assert not np.array_equal(found, noise())


@pytest.mark.parametrize("params", [NOTHING[0], {"attributes": {"Smiling": 1}}])
@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_a_quality_that_is_requested_overrides(client: TestClient, kind: str, params: dict):
    data = photograph(kind, quality=98)
    found = [len(edit(client, data, ANY, quality=quality, **params).content) for quality in (10, 60, 95)]
    assert found == sorted(found)
    assert found[0] < found[2] / 3


@pytest.mark.parametrize("params", [NOTHING[0], {"attributes": {"Smiling": 1}}])
@pytest.mark.parametrize("keep", [False, True])
def test_exif_data_are_dropped_unless_metadata_are_kept(client: TestClient, keep: bool, params: dict):
    told = Image.Exif()
    told[0x010F] = "a camera"
    data = photograph("JPEG", exif=told, dpi=(300, 300))
    found = opened(edit(client, data, ANY, keep_metadata=keep, **params).content)
    assert found.getexif().get(0x010F) == ("a camera" if keep else None)
    assert found.info["dpi"] == (300, 300)


@pytest.mark.parametrize("accept", ["image/jpg", "image/jpeg", "IMAGE/PJPEG;q=0.9"])
def test_other_names_of_jpeg_are_understood(client: TestClient, accept: str):
    response = edit(client, photograph("PNG"), {"Accept": accept}, attributes={"Smiling": 1})
    assert response.headers["content-type"] == "image/jpeg"
    assert opened(response.content).format == "JPEG"


@pytest.mark.parametrize("name", ["jpg", "jfif", "jpeg"])
def test_suffixes_of_jpeg_name_the_format(client: TestClient, name: str):
    response = edit(client, photograph("PNG"), {"Accept": "application/json"}, attributes={"Smiling": 1}, format=name)
    assert response.json()["images"][0]["media_type"] == "image/jpeg"


def test_a_picture_that_the_format_cannot_hold_is_422(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(encoding._LARGEST_SIDES, "webp", 217)
    body = problem(edit(client, photograph("PNG"), {"Accept": "image/webp"}, attributes={"Smiling": 1}), 422)
    assert "178 x 218 pixels; a WEBP image has at most 217" in body["detail"]


# ---- uploads that are cut


def test_a_jpeg_without_its_end_is_edited_and_a_header_says_so(client: TestClient):
    data = photograph("JPEG", quality=98)
    whole, cut = (edit(client, each, ANY, attributes={"Smiling": 1}) for each in (data, data[:-2]))
    assert WARNING not in whole.headers
    assert cut.headers[WARNING] == "the JPEG image ends early; what is missing of it is grey"
    assert cut.content == whole.content


def test_every_operation_says_so_also_when_the_picture_comes_again(client: TestClient):
    data = photograph("JPEG", quality=98)[:-2]
    for _ in range(2):
        assert WARNING in client.post("/v1/encode", content=data).headers
        assert WARNING in sweep(client, data, steps=2).headers
        assert WARNING in edit(client, data, ANY, **NOTHING[0]).headers
    assert WARNING in client.post("/v1/verify", content=data).headers


@pytest.mark.parametrize("behind", [b"", bytes(9), b"a film" * 999])
def test_nothing_is_said_of_what_stands_behind_a_whole_picture(client: TestClient, behind: bytes):
    response = client.post("/v1/encode", content=photograph("JPEG") + behind)
    assert response.status_code == 200
    assert WARNING not in response.headers


def test_a_jpeg_that_lacks_more_is_400(client: TestClient):
    data = photograph("JPEG")
    problem(client.post("/v1/encode", content=data[: len(data) // 2]), 400)
