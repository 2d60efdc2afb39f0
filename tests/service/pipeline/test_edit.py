"""Edit, called without HTTP: the same pictures as over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import FramingError, Problem, QueueFullError
from service.pipeline.edit import edit_picture
from service.pipeline.files import STILL, FileOptions
from service.pipeline.parameters import EditParameters
from service.pipeline.pictures import Picture, Pictures
from service.pipeline.pipeline import Pipeline
from service.provenance.marking import SourceType
from service.settings import Settings
from tests.service import fakes
from tests.service.fakes import ATTRIBUTES, EDITOR_SIZE, encoded, grey, pixels
from tests.service.pipeline.conftest import of, run, sample

ALL_KNOWN = dict.fromkeys(ATTRIBUTES, -1.0)


def edit(pipeline: Pipeline, picture: bytes | None, files: FileOptions | None = None, **params: Any) -> Pictures:
    parameters = EditParameters(**{"attributes": {"Smiling": 1}} | params)
    return run(pipeline, lambda pipeline, context: edit_picture(pipeline, context, parameters, picture, files))


def only(found: Pictures) -> Picture:
    (picture,) = found.pictures
    return picture


def test_a_photograph_is_edited_by_the_decoder(pipeline: Pipeline):
    found = edit(pipeline, grey(20))
    picture = only(found)
    assert (found.model, found.seed, picture.media_type) == ("tiny@1.2.3", None, "image/png")
    assert (picture.width, picture.height) == (178, 218)
    assert picture.source_type == SourceType.EDITED
    assert picture.attributes == dict.fromkeys(ATTRIBUTES, 0.25) | {"Smiling": 1}
    drawn = pixels(picture.data)
    assert drawn[114, 89].tolist() == [95] * 3
    assert (drawn[:40] == 20).all()
    assert sample(pipeline, "facet_images_total", operation="edit") == 1


def test_a_photograph_is_edited_by_the_editor(editing: Pipeline):
    assert pixels(only(edit(editing, grey(100))).data)[109, 89].tolist() == [148] * 3
    batches = {graph: sample(editing, "facet_batches_total", graph=graph) for graph in ("encoder", "decoder", "editor")}
    assert batches == {"encoder": 1, "decoder": 0, "editor": 1}


@pytest.mark.parametrize(("kind", "expected"), [("JPEG", "jpeg"), ("WEBP", "webp"), ("GIF", "png")])
def test_a_photograph_keeps_its_own_format_where_that_is_allowed(pipeline: Pipeline, kind: str, expected: str):
    photograph = encoded(Image.new("RGB", fakes.ALIGNED, "olive"), kind)
    assert only(edit(pipeline, photograph, FileOptions(STILL, 90))).format == expected


@pytest.mark.parametrize("with_editor", [False, True])
def test_it_is_the_picture_that_http_gives(settings: Settings, tmp_path, with_editor: bool):
    fakes.write_bundle(tmp_path / "both" / "tiny", schema=2, editor=with_editor)
    settings = settings.model_copy(update={"bundles": tmp_path / "both"})
    photograph = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 200, (218, 178, 3), np.uint8)), "PNG")
    here = only(edit(of(settings), photograph, FileOptions(("webp",), 80)))
    with fakes.serving(settings) as client:
        params = {"attributes": '{"Smiling": 1}', "quality": "80"}
        answer = client.post("/v1/edit", params=params, content=photograph, headers={"Accept": "image/webp"})
    assert here.data == answer.content


def test_the_bare_face_of_a_photograph_and_of_a_latent(editing: Pipeline, settings: Settings):
    bare = only(edit(editing, grey(100), output="face"))
    assert (bare.width, bare.source_type) == (EDITOR_SIZE, SourceType.EDITED)
    latent = only(edit(of(settings), None, latent=[5, 0, 0], source_attributes=ALL_KNOWN))
    assert (latent.width, latent.source_type) == (fakes.IMAGE_SIZE, SourceType.GENERATED)
    assert (pixels(latent.data) == 233).all()


@pytest.mark.parametrize(
    ("picture", "params", "field"),
    [
        (None, {}, "image"),
        (grey(1), {"latent": [0, 0, 0], "source_attributes": ALL_KNOWN}, "latent"),
        (None, {"latent": [0, 0, 0], "source_attributes": ALL_KNOWN, "output": "photo"}, "output"),
        (None, {"latent": [0, 0, 0]}, "source_attributes"),
        (grey(1), {"face": 1}, "face"),
        (grey(1), {"attributes": {"Smilng": 1}}, "attributes.Smilng"),
    ],
)
def test_what_cannot_be_edited_is_a_problem_of_that_field(pipeline: Pipeline, picture, params: dict, field: str):
    with pytest.raises(Problem) as caught:
        edit(pipeline, picture, **params)
    assert (caught.value.status, [error["field"] for error in caught.value.errors]) == (422, [field])


def test_a_picture_without_a_framed_face_is_an_image_error(pipeline: Pipeline):
    with pytest.raises(FramingError):
        edit(pipeline, grey(20, (300, 100)))


def test_many_at_once_are_batched_and_each_gets_its_own(settings: Settings):
    pipeline = of(settings.model_copy(update={"queue_images": 100}))

    async def story() -> list[Pictures]:
        async def one(level: int) -> Pictures:
            with pipeline.request(fakes.PATIENCE) as context:
                params = EditParameters(attributes={"Smiling": 1}, output="face")
                return await edit_picture(pipeline, context, params, grey(level))

        async with pipeline.running():
            return await asyncio.gather(*(one(level) for level in range(0, 20)))

    assert [pixels(only(found).data)[0, 0, 0] for found in asyncio.run(story())] == [*range(228, 248)]


def test_too_much_codec_work_is_refused(settings: Settings):
    pipeline = of(settings.model_copy(update={"queue_images": 1}))

    async def story() -> list[Any]:
        async def one() -> Pictures:
            with pipeline.request(fakes.PATIENCE) as context:
                return await edit_picture(pipeline, context, EditParameters(attributes={}, output="face"), grey(1))

        async with pipeline.running():
            return await asyncio.gather(one(), one(), one(), return_exceptions=True)

    refused = [each for each in asyncio.run(story()) if isinstance(each, QueueFullError)]
    assert len(refused) >= 1
