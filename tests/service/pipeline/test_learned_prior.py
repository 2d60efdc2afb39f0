"""Faces of models with a learned prior, which draws their latents."""

from __future__ import annotations

import numpy as np
import pytest

from service.bundle.manifest import BundleError
from service.errors import Problem
from service.pipeline.generate import generate_faces
from service.pipeline.parameters import GenerateParameters, SweepParameters
from service.pipeline.pipeline import Pipeline
from service.pipeline.sweep import sweep_face
from tests.fake_runtime import FakeRuntime
from tests.service.fakes import pixels
from tests.service.pipeline.conftest import of, run, sample


def levels(pipeline: Pipeline, **params) -> list[float]:
    """The grey level of each generated face."""
    found = run(pipeline, lambda *request: generate_faces(*request, GenerateParameters(**params)))
    return [pixels(picture.data).mean() for picture in found.pictures]


def test_the_prior_gets_attributes_within_the_range_of_labels(learned: Pipeline):
    assert levels(learned, attributes={"Smiling": 0.5}, temperature=0) == [128 + 50 + 1]
    assert sample(learned, "facet_batches_total", graph="prior") == 1


def test_exaggerated_attributes_are_the_decoders_alone(learned: Pipeline):
    assert levels(learned, attributes={"Smiling": -1.2}, temperature=0) == [128 - 120 - 2]


def several(pipeline: Pipeline, *params: dict) -> list[list[float]]:
    """The grey levels of several requests to one model, without a smile."""

    async def work(pipeline: Pipeline, context):
        made = [GenerateParameters(attributes={"Smiling": 0}, **each) for each in params]
        return [(await generate_faces(pipeline, context, each)).pictures for each in made]

    return [[pixels(picture.data).mean() for picture in found] for found in run(pipeline, work)]


def test_temperature_scales_the_noise(learned: Pipeline):
    half, whole = several(learned, {"seed": 4, "temperature": 0.5}, {"seed": 4, "temperature": 1.0})
    assert half[0] != 128
    assert whole[0] - 128 == pytest.approx(2 * (half[0] - 128), abs=1)


def test_a_face_depends_on_the_seed_and_its_index_alone(learned: Pipeline):
    alone, together, other = several(
        learned,
        {"seed": 3, "temperature": 1.0},
        {"seed": 3, "temperature": 1.0, "count": 6},
        {"seed": 5, "temperature": 1.0},
    )
    assert together[:1] == alone
    assert len(set(together)) > 3
    assert other != alone


def test_given_latents_are_decoded_as_they_are(learned: Pipeline):
    assert levels(learned, attributes={"Smiling": 0}, latents=[[5, 0, 0]]) == [133]
    assert sample(learned, "facet_batches_total", graph="prior") == 0


def test_a_sweep_keeps_the_latent_of_its_first_face(learned: Pipeline):
    params = SweepParameters(
        seed=3, attribute="Smiling", attributes={"Smiling": -0.5}, target=0.5, steps=3, layout="frames", size=16
    )
    found = run(learned, lambda *request: sweep_face(*request, params))
    first, second, third = (pixels(picture.data).mean() for picture in found.pictures)
    assert (second - first, third - second) == (50, 50)
    assert sample(learned, "facet_batches_total", graph="prior") == 1


def test_too_many_faces_are_refused_before_the_prior_runs(learned: Pipeline):
    with pytest.raises(Problem, match="count"):
        levels(learned, count=7)
    assert sample(learned, "facet_batches_total", graph="prior") == 0


def test_a_prior_that_draws_other_latents_is_refused(learned: Pipeline):
    class Other(FakeRuntime):
        def prior(self, inputs):
            return {"latent": super().prior(inputs)["latent"] + np.float32(20)}

    with pytest.raises(BundleError, match=r"samples\.png: the graphs draw other faces"):
        levels(of(learned.settings, Other))
