"""Attribute values of a request: read for its model, and what was ignored of them."""

from __future__ import annotations

import numpy as np
import pytest

from service.bundle import celeba
from service.errors import Problem
from service.pipeline import attributes
from service.pipeline.pipeline import Pipeline
from service.request import RequestContext
from service.settings import Settings
from tests.service.fakes import ATTRIBUTES
from tests.service.pipeline.conftest import of, run


def in_celebas_order(**values: float) -> list[float | None]:
    return [values.get(name) for name in celeba.ATTRIBUTES]


def test_ignored_values_of_all_parameters_are_facts_of_the_request(pipeline: Pipeline):
    async def work(pipeline: Pipeline, context: RequestContext) -> list[np.ndarray]:
        lease = pipeline.lease(context, None)
        (target,) = attributes.targets(lease, {"attributes": in_celebas_order(Smiling=1, Chubby=1, Bald=-1)})
        known = attributes.known(lease, in_celebas_order(Eyeglasses=-1, Blurry=0, Chubby=0))
        assert list(context.ignored_attributes) == ["Bald", "Chubby", "Blurry"]
        return [target, known]

    target, known = run(pipeline, work)
    nothing = np.full(len(ATTRIBUTES), np.nan)
    for vector, name, value in ((target, "Smiling", 1), (known, "Eyeglasses", -1)):
        expected = nothing.copy()
        expected[ATTRIBUTES.index(name)] = value
        np.testing.assert_array_equal(vector, expected)


def test_estimates_need_not_exclude_each_other_and_targets_must(pipeline: Pipeline):
    both = {"Black_Hair": 1, "Blond_Hair": 1}

    async def work(pipeline: Pipeline, context: RequestContext) -> None:
        lease = pipeline.lease(context, None)
        assert np.nansum(attributes.known(lease, both)) == 2
        with pytest.raises(Problem, match=r"others\.0\.attributes\.Blond_Hair: cannot be set together"):
            attributes.targets(lease, {"attributes": {}, "others.0.attributes": both})

    run(pipeline, work)


def test_disabled_ones_are_refused_by_the_name_of_their_parameter(settings: Settings):
    async def work(pipeline: Pipeline, context: RequestContext) -> None:
        lease = pipeline.lease(context, None)
        with pytest.raises(Problem, match=r"source_attributes\.Male: is a sensitive attribute") as caught:
            attributes.known(lease, {"Male": 1})
        assert caught.value.status == 403

    run(of(settings.model_copy(update={"sensitive_attributes": False})), work)
