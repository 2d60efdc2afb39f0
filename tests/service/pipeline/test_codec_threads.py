"""Picture work beside runs of graphs."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest
from prometheus_client import CollectorRegistry

from service import system
from service.inference.intra_op import IntraOpParallelism
from service.pipeline.codec_threads import CodecThreads
from service.pipeline.pixel_budget import PixelBudget
from service.telemetry.metrics import Metrics


@pytest.fixture
def codecs():
    with closing(CodecThreads(2, 10, Metrics(CollectorRegistry()), PixelBudget(1_000_000))) as threads:
        yield threads


@pytest.fixture
def cores() -> int:
    """Those of this process; one alone runs nothing in parallel."""
    found = system.available_cores()
    return found if found > 1 else pytest.skip("there is one core")


def test_a_run_beside_picture_work_has_no_threads_of_its_own(codecs: CodecThreads, cores: int):
    run = IntraOpParallelism(lambda _: "single", lambda _: "parallel", cores)

    async def runs() -> list[str]:
        return [await codecs.run(run, {}), run({})]

    assert asyncio.run(runs()) == ["single", "parallel"]


def test_picture_work_that_failed_is_no_longer_counted(codecs: CodecThreads, cores: int):
    run = IntraOpParallelism(lambda _: "single", lambda _: "parallel", cores)

    def fail() -> None:
        raise ValueError("broken")

    async def failing() -> None:
        with pytest.raises(ValueError, match="broken"):
            await codecs.run(fail)

    asyncio.run(failing())
    assert run({}) == "parallel"
