"""Every picture that leaves says what it is, in each format, and `verify` finds it."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.imaging import xmp
from service.imaging.xmp import Mark
from service.provenance import c2pa, marking
from service.provenance.c2pa import Agent
from service.provenance.marking import SourceType
from service.settings import Settings
from service.system import VERSION
from tests.service.fakes import ATTRIBUTES, TestClient, encoded, fields, grey, pixels, problem, serving

GENERATED, EDITED = SourceType.GENERATED, SourceType.EDITED
LATENT = {"latent": [5, 0, 0], "source_attributes": dict.fromkeys(ATTRIBUTES, -1)}
FILM = {"attribute": "Smiling", "layout": "animation", "steps": 3, "size": 32, **LATENT}
FRAMES = {"attribute": "Smiling", "layout": "frames", "steps": 2, "size": 32, **LATENT}


def found(data: bytes) -> Mark | None:
    image = Image.open(io.BytesIO(data))
    image.load()
    return xmp.read(image, data)


def mark(source_type: SourceType) -> Mark:
    return Mark(source_type, "Facet tiny", "1.2.3", f"Facet {VERSION}")


def post(client: TestClient, path: str, accept: str, body: dict[str, Any]) -> httpx.Response:
    response = client.post(path, json=body, headers={"Accept": accept})
    assert response.status_code == 200, response.text
    return response


def of_photo(client: TestClient, path: str, accept: str, photo: bytes | None = None, **params: str) -> httpx.Response:
    files = {"image": ("photo", photo or grey(20))}
    response = client.post(path, files=files, data=params, headers={"Accept": accept})
    assert response.status_code == 200, response.text
    return response


def verify(client: TestClient, data: bytes) -> dict[str, Any]:
    response = client.post("/v1/verify", files={"image": ("picture", data)})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generate", {"seed": 1}),
        ("/v1/generate", {"seed": 1, "count": 3}),
        ("/v1/edit", {"attributes": {"Smiling": 1}} | LATENT),
        ("/v1/sweep", {"attribute": "Smiling", "size": 32, "steps": 3} | LATENT),
    ],
)
def test_what_the_model_drew_is_marked_as_generated(client: TestClient, path: str, body: dict, kind: str):
    assert found(post(client, path, f"image/{kind}", body).content) == mark(GENERATED)


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_a_film_of_generated_faces_is_marked(client: TestClient, kind: str):
    assert found(post(client, "/v1/sweep", f"image/{kind}", FILM).content) == mark(GENERATED)


def test_every_picture_of_an_archive_is_marked(client: TestClient):
    with zipfile.ZipFile(io.BytesIO(post(client, "/v1/sweep", "application/zip", FRAMES).content)) as archive:
        assert [found(archive.read(name)) for name in archive.namelist()] == [mark(GENERATED)] * 2


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_an_edited_photograph_is_marked_as_a_composite(client: TestClient, kind: str):
    edited = of_photo(client, "/v1/edit", f"image/{kind}", attributes='{"Smiling": 1}')
    assert found(edited.content) == mark(EDITED)
    swept = of_photo(client, "/v1/sweep", f"image/{kind}", attribute="Smiling", size="32", steps="3")
    assert found(swept.content) == mark(EDITED)


def test_the_bare_face_of_a_photograph_is_drawn_by_the_model(client: TestClient):
    params = {"attributes": '{"Smiling": 1}', "output": "face"}
    assert found(of_photo(client, "/v1/edit", "image/png", **params).content) == mark(GENERATED)


@pytest.mark.parametrize("term", ["digitalCapture", "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"])
def test_whatever_a_photograph_said_before_its_edit_is_a_composite(client: TestClient, term: str):
    before = xmp.packet(Mark(f"http://cv.iptc.org/newscodes/digitalsourcetype/{term}", "Another", "9"))
    photo = encoded(Image.new("RGB", (178, 218), "olive"), "JPEG", xmp=before)
    assert found(of_photo(client, "/v1/edit", "image/*", photo, attributes='{"Smiling": 1}').content) == mark(EDITED)


def test_json_says_it_beside_the_marked_bytes(client: TestClient):
    drawn = post(client, "/v1/generate", "application/json", {"count": 2, "format": "webp"}).json()["images"]
    edited = of_photo(client, "/v1/edit", "application/json", attributes='{"Smiling": 1}').json()["images"]
    film = post(client, "/v1/sweep", "application/json", FILM).json()["images"]
    assert [image["digital_source_type"] for image in [*drawn, *edited, *film]] == [GENERATED] * 2 + [EDITED, GENERATED]
    for image in [*drawn, *edited, *film]:
        assert found(base64.b64decode(image["data"])) == mark(image["digital_source_type"])


def test_verify_tells_the_mark_of_a_generated_picture(client: TestClient):
    body = verify(client, post(client, "/v1/generate", "image/png", {}).content)
    assert (body["width"], body["height"], body["synthetic"], body["facet"]) == (8, 8, True, True)
    assert body["xmp"] == {
        "digital_source_type": GENERATED,
        "system": "Facet tiny",
        "version": "1.2.3",
        "tool": f"Facet {VERSION}",
    }


@pytest.mark.parametrize("accept", ["image/webp", "image/gif"])
def test_verify_reads_films(client: TestClient, accept: str):
    body = verify(client, post(client, "/v1/sweep", accept, FILM).content)
    assert (body["synthetic"], body["facet"]) == (True, True)


def test_verify_does_not_take_the_absence_of_marks_for_a_proof(client: TestClient):
    body = verify(client, grey(20))
    assert (body["synthetic"], body["facet"], body["xmp"]) == (None, False, None)
    assert "does not show" in body["note"]


@pytest.mark.parametrize(
    ("told", "synthetic"),
    [
        (Mark("http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"), None),
        (Mark("https://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"), True),
        (Mark(system="Another generator"), True),
        (Mark(tool="A program"), None),
    ],
)
def test_marks_of_others_count_and_are_not_ours(client: TestClient, told: Mark, synthetic: bool | None):
    body = verify(client, encoded(Image.new("RGB", (9, 9)), "WEBP", xmp=xmp.packet(told)))
    assert (body["synthetic"], body["facet"]) == (synthetic, False)


def test_verify_refuses_what_is_no_picture(client: TestClient):
    assert fields(problem(client.post("/v1/verify?name=value", content=grey(1)), 422)) == ["name"]
    assert fields(problem(client.post("/v1/verify", json={}), 422)) == ["image"]
    problem(client.post("/v1/verify", content=b"hello"), 415)
    problem(client.post("/v1/verify", content=grey(1)[:60]), 400)
    problem(client.post("/v1/verify", content=grey(1, (500, 500))), 413)


def test_verify_needs_no_model(client: TestClient):
    client.app.state.service.ready = False
    assert verify(client, grey(20))["synthetic"] is None


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
def test_another_program_reads_every_mark(client: TestClient, tmp_path: Path):
    for kind in ("png", "jpeg", "webp"):
        (tmp_path / f"face.{kind}").write_bytes(post(client, "/v1/generate", f"image/{kind}", {}).content)
    for kind in ("webp", "gif"):
        (tmp_path / f"film.{kind}").write_bytes(post(client, "/v1/sweep", f"image/{kind}", FILM).content)
    command = ["exiftool", "-json", "-XMP:all", "-Warning", "-Error", str(tmp_path)]
    told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert len(told) == 5
    for file in told:
        assert "Warning" not in file
        assert "Error" not in file
        assert file["DigitalSourceType"] == GENERATED
        assert file["CreatorTool"] == f"Facet {VERSION}"
        # Properties of 2025, which an older exiftool reads without knowing them.
        assert (file["AISystemUsed"], file["AISystemVersionUsed"]) in {("Facet tiny", "1.2.3"), ("Facet tiny", 1.2)}


def test_without_its_package_no_manifest_is_looked_for(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(c2pa, "installed", lambda: False)
    body = verify(client, grey(20))
    assert (body["checked"], body["c2pa"]) == (["xmp", "watermark"], None)


def test_a_packet_is_made_once_for_each_model_and_kind():
    first, again, other = (marking.Origin(GENERATED, Agent(name, "1")).packet for name in "aab")
    assert first is again
    assert first != other


def test_a_large_picture_that_a_model_drew_has_a_watermark(client: TestClient):
    sweep = {"attribute": "Smiling", "steps": 2, "size": 260} | LATENT
    data = post(client, "/v1/sweep", "image/png", sweep | {"layout": "strip"}).content
    bare = encoded(Image.open(io.BytesIO(data)).convert("RGB"), "JPEG", quality=75)
    body = verify(client, bare)
    assert (body["xmp"], body["c2pa"]) == (None, None)
    assert (body["synthetic"], body["facet"], body["watermark"]["found"]) == (True, True, True)
    assert body["watermark"]["score"] > body["watermark"]["threshold"]
    film = post(client, "/v1/sweep", "image/webp", sweep | {"layout": "animation"}).content
    assert verify(client, film)["watermark"]["found"]


def test_a_photograph_gets_no_watermark(client: TestClient):
    noise = np.random.default_rng(0).integers(90, 94, (436, 356, 3), dtype=np.uint8)
    photo = encoded(Image.fromarray(noise), "PNG")
    edited = of_photo(client, "/v1/edit", "image/png", photo, attributes='{"Smiling": 1}', strength="0", framed="true")
    assert np.array_equal(pixels(edited.content), noise)
    assert verify(client, edited.content)["watermark"]["found"] is False
    assert verify(client, edited.content)["synthetic"] is True  # its metadata say so


def test_the_watermark_can_be_switched_off(settings: Settings):
    sweep = {"attribute": "Smiling", "steps": 2, "size": 260} | LATENT
    with serving(settings.model_copy(update={"watermark": False})) as client:
        body = verify(client, post(client, "/v1/sweep", "image/png", sweep).content)
    assert (body["watermark"]["found"], body["facet"]) == (False, True)


def test_a_small_picture_is_not_searched_for_a_watermark(client: TestClient):
    body = verify(client, grey(20, (60, 300)))
    assert body["watermark"] is None
    assert "watermark" not in body["checked"]
    assert "watermark" in verify(client, grey(20))["checked"]
