"""Generate, called without HTTP."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import Problem
from service.pipeline.files import FileOptions
from service.pipeline.generate import generate_faces
from service.pipeline.parameters import GenerateParameters
from service.pipeline.pipeline import Pipeline
from service.provenance import marking
from service.provenance.marking import SourceType
from tests.service import fakes
from tests.service.fakes import pixels
from tests.service.pipeline.conftest import run, sample


def generated(pipeline: Pipeline, params: GenerateParameters, files: FileOptions | None = None):
    return run(pipeline, lambda pipeline, context: generate_faces(pipeline, context, params, files))


def test_faces_come_as_files_with_their_attributes_and_the_seed(pipeline: Pipeline):
    params = GenerateParameters(attributes={"Smiling": 0.5}, count=3, seed=7, temperature=0)
    found = generated(pipeline, params)
    assert (found.model, found.seed, len(found.pictures)) == ("tiny@1.2.3", 7, 3)
    for picture in found.pictures:
        assert (picture.media_type, picture.width, picture.height) == ("image/png", 8, 8)
        assert (pixels(picture.data) == 128 + 50 + 10).all()
        assert picture.attributes["Smiling"] == 0.5
        assert picture.source_type == SourceType.GENERATED
        assert marking.examine(picture.data, 10**6).mark.digital_source_type == SourceType.GENERATED
    assert sample(pipeline, "facet_images_total", operation="generate") == 3


def test_as_one_they_are_a_grid_in_the_format_of_the_options(pipeline: Pipeline):
    params = GenerateParameters(attributes={"Smiling": 0}, latents=[[0, 0, 0], [10, 0, 0], [20, 0, 0]])
    (picture,) = generated(pipeline, params, FileOptions(("webp",), 100, as_one=True)).pictures
    assert (picture.media_type, picture.width, picture.height) == ("image/webp", 16, 16)
    assert picture.attributes is None


def test_pictures_come_in_the_size_that_is_requested(pipeline: Pipeline):
    params = GenerateParameters(attributes={"Smiling": 0.5}, count=2, seed=7, temperature=0, size=48)
    for picture in generated(pipeline, params).pictures:
        assert (picture.width, picture.height) == (48, 48)
        assert (pixels(picture.data) == 128 + 50 + 10).all()


def test_too_many_pixels_are_refused_before_anything_is_drawn(pipeline: Pipeline):
    pipeline.settings = pipeline.settings.model_copy(update={"max_image_pixels": 10_000})
    with pytest.raises(Problem, match="size: 2 pictures of that size are too many pixels"):
        generated(pipeline, GenerateParameters(count=2, size=80))
    assert sample(pipeline, "facet_batches_total", graph="decoder") == 0


def test_a_seed_is_drawn_where_none_is_given(pipeline: Pipeline):
    async def twice(pipeline, context):
        return [(await generate_faces(pipeline, context, GenerateParameters())).seed for _ in range(2)]

    first, second = run(pipeline, twice)
    assert first != second


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"count": 7}, "count"),
        ({"latents": [[0, 0]]}, "latents.0"),
        ({"attributes": {"Smilng": 1}}, "attributes.Smilng"),
        ({"model": "other"}, "model"),
    ],
)
def test_what_the_model_cannot_take_is_a_problem_of_that_field(pipeline: Pipeline, params: dict, field: str):
    with pytest.raises(Problem) as caught:
        generated(pipeline, GenerateParameters(**params))
    assert [error["field"] for error in caught.value.errors] == [field]


def test_another_format_is_refused_before_anything_is_drawn(pipeline: Pipeline):
    with pytest.raises(Problem, match="format: must be png or jpeg or webp"):
        generated(pipeline, GenerateParameters(), FileOptions(("gif",), 90))
    assert sample(pipeline, "facet_batches_total", graph="decoder") == 0


def test_before_the_models_are_loaded_it_is_a_503(pipeline: Pipeline):
    async def early() -> None:
        with pipeline.request() as context:
            await generate_faces(pipeline, context, GenerateParameters())

    with pytest.raises(Problem, match="not ready") as caught:
        asyncio.run(early())
    assert caught.value.status == 503
    pipeline.codecs.close()


def test_the_model_of_a_request_stays_open_until_the_request_is_over(pipeline: Pipeline):
    async def close_meanwhile() -> tuple[bool, bool]:
        async with pipeline.running():
            model = pipeline.models.get(None)
            with pipeline.request(fakes.PATIENCE) as context:
                await generate_faces(pipeline, context, GenerateParameters())
                closing = asyncio.create_task(model.close())
                for _ in range(5):
                    await asyncio.sleep(0)
                meanwhile = model.closed
            await closing
            return meanwhile, model.closed

    assert asyncio.run(close_meanwhile()) == (False, True)
