"""The simulation agrees with what queueing theory knows in closed form, and loses nobody."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.autoscaler import Autoscaler, Policy
from benchmarks.queueing import Capacity, Fleet, Scaling, Trace, poisson

POLICY = Path(__file__).parents[2] / "deploy" / "kubernetes" / "monitoring" / "autoscaler.yaml"
SINGLE = Capacity(workers=1, seconds=1.0, max_batch=1, queue=math.inf)


def ran(capacity: Capacity, rate: float, seconds: float, replicas: int = 1, **options: object) -> Trace:
    times = poisson([(seconds, rate)], np.random.default_rng(3))
    return Fleet(capacity, replicas, np.random.default_rng(4), **options).run(times)


def erlang_c(load: float, workers: int) -> float:
    """The share that waits in M/M/c, of `load` Erlang."""
    last = load**workers / math.factorial(workers) * workers / (workers - load)
    return last / (sum(load**k / math.factorial(k) for k in range(workers)) + last)


@pytest.mark.parametrize(("workers", "load"), [(1, 0.7), (3, 2.1)])
def test_exponential_times_wait_as_in_m_m_c(workers: int, load: float):
    capacity = dataclasses.replace(SINGLE, workers=workers, exponential=True)
    waited = ran(capacity, load, 60_000 / load).waited
    assert (waited > 0).mean() == pytest.approx(erlang_c(load, workers), rel=0.05)
    assert waited.mean() == pytest.approx(erlang_c(load, workers) / (workers - load), rel=0.08)


def test_fixed_times_wait_as_in_m_d_1():
    waited = ran(SINGLE, 0.7, 90_000).waited
    assert waited.mean() == pytest.approx(0.7 / (2 * (1 - 0.7)), rel=0.05)


def test_a_bounded_queue_refuses_as_in_m_m_1_k():
    load, places = 1.2, 5
    capacity = dataclasses.replace(SINGLE, queue=places - 1, exponential=True)
    trace = ran(capacity, load, 50_000)
    refused = (1 - load) * load**places / (1 - load ** (places + 1))
    assert len(trace.refused) / len(trace.arrived) == pytest.approx(refused, rel=0.05)


def test_littles_law():
    seconds = 20_000
    trace = ran(Capacity(workers=2, seconds=1.0, queue=20), 1.9, seconds)
    rate = np.isfinite(trace.waited).sum() / seconds
    assert trace.waiting_area / seconds == pytest.approx(rate * np.nanmean(trace.waited), rel=1e-9)


def test_overload_is_answered_at_the_rate_of_full_batches_and_waits_for_a_full_queue():
    capacity = Capacity(workers=2, seconds=0.004, batch_seconds=0.01, max_batch=16, queue=64)
    trace = ran(capacity, 4 * capacity.rate, 60)
    assert trace.answered.sum() / 60 == pytest.approx(capacity.rate, rel=0.03)
    assert np.nanmedian(trace.waited) == pytest.approx(64 / capacity.rate, rel=0.2)


def test_everybody_is_answered_or_gives_up_and_nobody_before_the_last_attempt():
    capacity = Capacity(workers=1, seconds=0.1, queue=4)
    trace = ran(capacity, 15, 60, patience=3)
    assert len(trace.ended) == len(trace.arrived) == len(trace.waited)
    assert (trace.ended >= trace.arrived).all()
    lost = ~trace.answered
    assert lost.any()
    assert len(trace.refused) >= 4 * lost.sum()
    assert np.isnan(trace.waited[lost]).all()
    assert np.isfinite(trace.waited[trace.answered]).all()
    # Retry-After is a second at least, three times.
    assert (trace.ended - trace.arrived)[lost].min() >= 3.0


def test_refusals_that_take_time_leave_less_for_answers():
    free, dear = (
        ran(Capacity(workers=1, seconds=0.01, queue=32, refusal_seconds=cost), 400, 60).answered.sum()
        for cost in (0.0, 0.001)
    )
    # Of a second, 300 refusals and more take 0.3: x answers take 0.01 x, and 400 - x refusals 0.001 each.
    assert free / 60 == pytest.approx(100, rel=0.03)
    assert dear / 60 == pytest.approx((1 - 0.4) / (0.01 - 0.001), rel=0.03)


def test_two_replicas_wait_hardly_longer_than_one_of_twice_the_workers():
    load = 1.6
    waited = ran(dataclasses.replace(SINGLE, exponential=True), load, 30_000, replicas=2).waited
    # Both queues have one line in M/M/2; with turns instead of the shorter line it would be 1.6 times as much.
    together = erlang_c(load, 2) / (2 - load)
    assert 0.9 * together < waited.mean() < 1.25 * together


def test_the_same_seed_gives_the_same_trace():
    first, second = (ran(Capacity(workers=1, seconds=0.1, queue=4), 15, 20, patience=2) for _ in range(2))
    assert np.array_equal(first.ended, second.ended)


@pytest.mark.slow
def test_an_autoscaler_adds_replicas_until_nobody_is_refused_and_takes_them_away_later():
    capacity = Capacity(workers=2, seconds=0.02, queue=64)
    policy = Policy.read(POLICY)
    rate = policy.least * capacity.rate
    times = poisson([(60, 0.5 * rate), (300, 2.5 * rate), (900, 0.5 * rate)], np.random.default_rng(0))
    scaling = Scaling(Autoscaler(policy), start_seconds=10)
    trace = Fleet(capacity, policy.least, np.random.default_rng(1), scaling).run(times)
    ready = [moment.ready for moment in trace.history]
    assert trace.refused.min() > 60
    assert trace.refused.max() < 60 + 150
    assert 5 <= max(ready) <= policy.most
    assert ready[-1] == policy.least
    down = [later - earlier for earlier, later in itertools.pairwise(ready) if later < earlier]
    assert set(down) == {-1}
    assert trace.answered.sum() + len(trace.refused) == len(trace.arrived)
    assert trace.replica_seconds < policy.most * 1260


def test_arrivals_come_at_the_rate_of_their_phase():
    times = poisson([(100, 5), (100, 50)], np.random.default_rng(0))
    assert (np.diff(times) >= 0).all()
    assert (times < 100).sum() == pytest.approx(500, abs=5 * math.sqrt(500))
    assert (times >= 100).sum() == pytest.approx(5000, abs=5 * math.sqrt(5000))
