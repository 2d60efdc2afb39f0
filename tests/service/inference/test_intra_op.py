"""Which runs have the cores to themselves, and that it changes no value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.bundle import loader
from service.inference.intra_op import BusyThreads, IntraOpParallelism
from service.inference.onnx import blank
from service.inference.session import open_session

SHIPPED = Path(__file__).parents[3] / "bundles" / "celeba128"


def test_graphs_that_share_the_cores_are_counted_together():
    busy, seen = BusyThreads(2), []
    inner = IntraOpParallelism(lambda _: seen.append("single"), lambda _: seen.append("parallel"), 2, busy)

    def around(_):
        inner({})
        seen.append("outer")

    outer = IntraOpParallelism(around, around, 2, busy)
    outer({})
    inner({})
    assert seen == ["single", "outer", "parallel"]


def test_a_run_that_failed_is_no_longer_counted():
    def fail(_):
        raise RuntimeError("broken")

    runs = IntraOpParallelism(lambda _: "single", fail, 2, BusyThreads(2))
    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            runs({})


def test_as_many_runs_as_there_are_cores_for_have_threads_of_their_own():
    busy = BusyThreads(5)
    with busy.enter(2) as first, busy.enter(2) as second, busy.enter(2) as third, busy.enter(2) as fourth:
        assert (first, second, third, fourth) == (2, 2, 1, 1)
    with busy.enter() as picture, busy.enter(4) as run, busy.enter(4) as other:
        assert (picture, run, other) == (1, 4, 1)


@pytest.mark.parametrize("kind", ["encoder", "decoder", "editor", "prior"])
def test_more_threads_give_the_same_values(kind: str):
    bundle = loader.load(SHIPPED)
    inputs = blank(bundle.manifest, kind, 3)
    random = np.random.default_rng(5)
    for name, value in inputs.items():
        drawn = random.integers(0, 256, value.shape) if value.dtype == np.uint8 else random.normal(size=value.shape)
        inputs[name] = drawn.astype(value.dtype)
    single, parallel = (open_session(bundle.path(f"{kind}.onnx"), threads).run(None, inputs) for threads in (1, 4))
    assert all(np.array_equal(a, b) for a, b in zip(single, parallel, strict=True))
