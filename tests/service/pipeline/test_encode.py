"""Encode, called without HTTP."""

from __future__ import annotations

import numpy as np
import pytest

from service.errors import BrokenImageError, Problem
from service.pipeline.encode import encode_picture
from service.pipeline.parameters import EncodeParameters
from service.pipeline.pipeline import Pipeline
from service.settings import Settings
from tests.service.fakes import ATTRIBUTES, grey
from tests.service.pipeline.conftest import of, run, sample


def test_a_picture_gives_the_latent_the_attributes_and_the_location_of_its_face(pipeline: Pipeline):
    params = EncodeParameters(attributes={"Smiling": 1.0})
    found = run(pipeline, lambda pipeline, context: encode_picture(pipeline, context, params, grey(60)))
    assert (found.model, found.width, found.height) == ("tiny@1.2.3", 178, 218)
    (face,) = found.faces
    assert face.location.box == (15, 40, 163, 188)
    assert face.location.landmarks is None
    assert face.latent.tolist() == [60, 60, 60]
    assert face.log_variance.dtype == np.float32
    assert face.attributes == dict.fromkeys(ATTRIBUTES, 0.25) | {"Smiling": 1.0}
    assert sample(pipeline, "facet_images_total", operation="encode") == 1


def test_disabled_attributes_are_left_out(settings: Settings):
    pipeline = of(settings.model_copy(update={"sensitive_attributes": False}))
    found = run(pipeline, lambda p, context: encode_picture(p, context, EncodeParameters(), grey(60)))
    assert set(found.faces[0].attributes) == set(ATTRIBUTES) - {"Male"}


def test_the_context_knows_the_model_the_stages_and_the_images(pipeline: Pipeline):
    async def encode(pipeline, context):
        await encode_picture(pipeline, context, EncodeParameters(), grey(60))
        return context

    context = run(pipeline, encode)
    assert context.model == "tiny@1.2.3"
    assert context.images == 1
    assert list(context.stages) == ["decode", "align", "queue", "infer"]


@pytest.mark.parametrize(
    ("picture", "error"), [(None, Problem), (b"", BrokenImageError), (grey(1)[:99], BrokenImageError)]
)
def test_a_picture_that_cannot_be_used_is_an_error(pipeline: Pipeline, picture: bytes | None, error: type[Exception]):
    with pytest.raises(error, match=r"is required|empty|truncated"):
        run(pipeline, lambda p, context: encode_picture(p, context, EncodeParameters(), picture))
