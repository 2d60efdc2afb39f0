"""A pipeline that runs the tiny bundle with the fake runtime, without HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry

from service.pipeline.pipeline import Pipeline
from service.request import RequestContext
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.fake_runtime import FakeRuntime
from tests.service import fakes

T = TypeVar("T")
Work = Callable[[Pipeline, RequestContext], Awaitable[T]]


def of(settings: Settings, runtime: Callable[[Any], FakeRuntime] = FakeRuntime) -> Pipeline:
    return Pipeline.of(settings, lambda bundle, _: runtime(bundle.manifest), Metrics(CollectorRegistry()))


def run(pipeline: Pipeline, work: Work[T]) -> T:
    """The result of `work` for one request."""

    async def request() -> T:
        async with pipeline.running():
            with pipeline.request(fakes.PATIENCE) as context:
                return await work(pipeline, context)

    return asyncio.run(request())


def sample(pipeline: Pipeline, name: str, **labels: str) -> float:
    return pipeline.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def pipeline(settings: Settings) -> Pipeline:
    return of(settings)


@pytest.fixture
def learned(settings: Settings) -> Pipeline:
    """A pipeline whose model has a learned prior."""
    fakes.write_bundle(settings.bundles.parent / "learned" / "tiny", schema=2, prior=True)
    return of(settings.model_copy(update={"bundles": settings.bundles.parent / "learned"}))


@pytest.fixture
def editing(settings: Settings) -> Pipeline:
    """A pipeline whose model has an editor."""
    fakes.write_bundle(settings.bundles.parent / "edited" / "tiny", schema=2, editor=True)
    return of(settings.model_copy(update={"bundles": settings.bundles.parent / "edited"}))
