"""Verify, called without HTTP."""

from __future__ import annotations

import pytest

from service.errors import Problem
from service.pipeline.generate import generate_faces
from service.pipeline.parameters import GenerateParameters
from service.pipeline.pipeline import Pipeline
from service.pipeline.verify import verify_picture
from tests.service.fakes import grey
from tests.service.pipeline.conftest import run


def test_generated_pictures_name_facet_and_others_do_not(pipeline: Pipeline):
    async def story(pipeline, context):
        (drawn,) = (await generate_faces(pipeline, context, GenerateParameters())).pictures
        return [await verify_picture(pipeline, context, data) for data in (drawn.data, grey(1))]

    drawn, plain = run(pipeline, story)
    assert (drawn.synthetic, drawn.facet, drawn.width) == (True, True, 8)
    assert (plain.synthetic, plain.facet, plain.width) == (None, False, 178)


def test_a_picture_is_required(pipeline: Pipeline):
    with pytest.raises(Problem, match="image: is required"):
        run(pipeline, lambda pipeline, context: verify_picture(pipeline, context, None))
