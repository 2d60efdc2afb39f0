"""Batches give what single requests to the service give."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prometheus_client import CollectorRegistry

from facet_ray.editor import Edit, EditError, Editor
from service.app import create_app
from service.errors import Problem
from service.provenance import marking
from service.provenance.marking import SourceType
from service.settings import Settings
from tests.facet_ray.conftest import BROKEN, SMILE, painted
from tests.fake_runtime import FakeRuntime
from tests.service import fakes
from tests.service.fakes import TestClient


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_batch_gives_the_services_own_pictures(editor: Editor, settings: Settings):
    pictures = painted(11)
    results = editor.edit(pictures, ["png"] * 11)
    with TestClient(create_app(settings, registry=CollectorRegistry())) as client:
        for data, result in zip(pictures, results, strict=True):
            answer = client.post(
                "/v1/edit",
                params={"attributes": '{"Smiling": 1}', "framed": "true"},
                content=data,
                headers={"Accept": "image/png"},
            )
            difference = np.abs(pixels(answer.content).astype(int) - pixels(result))
            assert difference.max() <= 2  # other batch sizes round differently
            assert np.abs(pixels(result).astype(int) - pixels(data)).max() > 10


def test_one_bad_picture_fails_alone_and_in_its_place(editor: Editor):
    first, second = painted(2)
    results = editor.edit([first, BROKEN, b"", second], [None] * 4)
    assert [isinstance(each, EditError) for each in results] == [False, True, True, False]
    assert "truncated or corrupt" in str(results[1])
    assert "empty" in str(results[2])
    assert pixels(results[3]).shape == pixels(second).shape


def test_a_batch_of_nothing_but_bad_pictures(editor: Editor):
    assert all(isinstance(each, EditError) for each in editor.edit([BROKEN, BROKEN], [None, None]))
    assert editor.edit([], []) == []


def test_results_keep_their_format_and_say_where_they_come_from(editor: Editor, settings: Settings):
    (data,) = painted(1)
    for kind, expected in ((None, "JPEG"), ("webp", "WEBP"), ("png", "PNG")):
        (result,) = editor.edit([data], [kind])
        assert Image.open(io.BytesIO(result)).format == expected
        found = marking.examine(result, settings.max_image_pixels)
        assert found.mark.digital_source_type == SourceType.EDITED
        assert found.mark.system == "Facet celeba128"


def test_a_face_that_is_not_there_is_said(settings: Settings):
    (data,) = painted(1)
    (result,) = Editor(settings, dataclasses.replace(SMILE, face=1)).edit([data], [None])
    assert str(result) == "face: must be below 1, the number of faces found, or 'all'"
    (result,) = Editor(settings, dataclasses.replace(SMILE, face="all")).edit([data], [None])
    assert isinstance(result, bytes)


def test_an_edit_that_changes_nothing_changes_no_pixel(settings: Settings):
    (data,) = painted(1)
    (result,) = Editor(settings, dataclasses.replace(SMILE, strength=0.0)).edit([data], ["png"])
    np.testing.assert_array_equal(pixels(result), pixels(data))


def test_an_attribute_that_the_model_does_not_have_is_refused(settings: Settings):
    with pytest.raises(Problem, match="did you mean Smiling"):
        Editor(settings, Edit({"Smilng": 1.0}))


# ---- with an editor


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings for the tiny bundle, whose editor is the fake one; adding smiles is experimental."""
    fakes.write_bundle(tmp_path / "bundles" / "tiny", schema=2, editor=True)
    marks = {"added": "hardly ever seen"}
    fakes.rewrite_manifest(tmp_path / "bundles" / "tiny", lambda m: m["attributes"][0].update(experimental=marks))
    monkeypatch.setattr("facet_ray.editor.open_runtime", lambda bundle, _: FakeRuntime(bundle.manifest))
    return Settings(bundles=tmp_path / "bundles", weights=tmp_path / "none", default_model="tiny", max_batch=4)


def test_an_editor_gives_the_services_own_pictures(edited: Settings):
    pictures = [*painted(5), fakes.encoded(Image.open(io.BytesIO(painted(1)[0])).convert("L"), "PNG")]
    requested = Edit({"Eyeglasses": 1.0, "Black_Hair": 1.0}, framed=True)
    results = Editor(edited, requested).edit(pictures, ["png"] * 6)
    with fakes.serving(edited) as client:
        for data, result in zip(pictures, results, strict=True):
            params = {"attributes": '{"Eyeglasses": 1, "Black_Hair": 1}', "framed": "true"}
            answer = client.post("/v1/edit", params=params, content=data, headers={"Accept": "image/png"})
            assert np.array_equal(pixels(answer.content), pixels(result))
            assert (pixels(result) != pixels(data)).any()
    assert pixels(results[-1]).ndim == 2


def test_an_experimental_edit_is_an_error_of_its_pictures_unless_it_is_requested(edited: Settings):
    (data,) = painted(1)
    smile = Edit({"Smiling": 1.0}, framed=True)
    (result,) = Editor(edited, smile).edit([data], ["png"])
    assert "adding Smiling to a photograph is experimental: hardly ever seen" in str(result)
    (result,) = Editor(edited, dataclasses.replace(smile, experimental=True)).edit([data], ["png"])
    assert isinstance(result, bytes)
    (result,) = Editor(edited, dataclasses.replace(smile, attributes={"Smiling": -1.0})).edit([data], ["png"])
    assert isinstance(result, bytes)
    still = dataclasses.replace(smile, strength=0.0)
    (result,) = Editor(edited, still).edit([data], ["png"])
    assert np.array_equal(pixels(result), pixels(data))
