"""Sweep, called without HTTP."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest
from PIL import Image

from service.errors import Problem
from service.pipeline.files import FileOptions
from service.pipeline.parameters import SweepParameters
from service.pipeline.pictures import Pictures
from service.pipeline.pipeline import Pipeline
from service.pipeline.sweep import sweep_face
from service.provenance.marking import SourceType
from tests.service.fakes import ATTRIBUTES, grey, pixels
from tests.service.pipeline.conftest import of, run, sample

LATENT = {"latent": [5, 0, 0], "source_attributes": dict.fromkeys(ATTRIBUTES, -1) | {"Smiling": 0}}


def sweep(pipeline: Pipeline, picture: bytes | None, files: FileOptions | None = None, **params: Any) -> Pictures:
    parameters = SweepParameters(**{"attribute": "Smiling", "steps": 3, "size": 32} | params)
    return run(pipeline, lambda pipeline, context: sweep_face(pipeline, context, parameters, picture, files))


def test_frames_come_one_by_one_with_their_attributes(pipeline: Pipeline):
    found = sweep(pipeline, None, layout="frames", **LATENT)
    assert [pixels(picture.data)[0, 0, 0] for picture in found.pictures] == [133, 183, 233]
    assert [picture.attributes["Smiling"] for picture in found.pictures] == [0, 0.5, 1]
    assert {(p.width, p.height, p.source_type) for p in found.pictures} == {(32, 32, SourceType.GENERATED)}
    assert sample(pipeline, "facet_images_total", operation="sweep") == 3


def test_as_one_file_they_are_an_archive(pipeline: Pipeline):
    (archive,) = sweep(pipeline, None, FileOptions(("jpeg",), 90, as_one=True), layout="frames", **LATENT).pictures
    assert (archive.media_type, archive.attributes) == ("application/zip", None)
    with zipfile.ZipFile(io.BytesIO(archive.data)) as files:
        assert files.namelist() == ["00.jpeg", "01.jpeg", "02.jpeg"]


def test_a_strip_tells_the_attributes_of_the_last_step(pipeline: Pipeline):
    (strip,) = sweep(pipeline, None, layout="strip", **LATENT).pictures
    assert strip.attributes["Smiling"] == 1
    assert pixels(strip.data).shape == (strip.height, strip.width, 3)
    assert strip.width > 3 * 32


@pytest.mark.parametrize(("files", "kind"), [(None, "WEBP"), (FileOptions(("gif",), 90, as_one=True), "GIF")])
def test_an_animation(pipeline: Pipeline, files: FileOptions | None, kind: str):
    (film,) = sweep(pipeline, None, files, layout="animation", **LATENT).pictures
    with Image.open(io.BytesIO(film.data)) as image:
        assert (image.format, image.n_frames) == (kind, 4)


def test_a_photograph_and_a_seed(pipeline: Pipeline):
    found = sweep(pipeline, grey(20), layout="frames", size=218)
    assert found.pictures[0].source_type == SourceType.EDITED
    assert (pixels(found.pictures[0].data) == 20).all()
    assert sweep(of(pipeline.settings), None, seed=3).seed == 3


@pytest.mark.parametrize(
    ("picture", "params", "field"),
    [
        (None, {}, "image"),
        (grey(1), {"seed": 3}, "seed"),
        (None, {"steps": 7, **LATENT}, "steps"),
        (None, {"steps": 6, "size": 1024, **LATENT}, "size"),
        (None, {"attribute": "Smilng", **LATENT}, "attribute.Smilng"),
    ],
)
def test_what_cannot_be_swept_is_a_problem_of_that_field(pipeline: Pipeline, picture, params: dict, field: str):
    with pytest.raises(Problem) as caught:
        sweep(pipeline, picture, **params)
    assert [error["field"] for error in caught.value.errors] == [field]
