"""What the benchmark of bursts makes of answers and of traces."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import autoscaling
from benchmarks.autoscaling import BURST, CALM, PHASES, Measured, arrivals, by_phase, report, scene, simulated


def measured(peak: float, refusal: float = 0.0, workload: str = "generate") -> Measured:
    moments = np.array([0.0, 9.0, 29.0])
    return Measured(
        workload=workload,
        seed=1,
        peak=peak,
        milliseconds=4.0,
        refusal_milliseconds=refusal,
        proxy_milliseconds=0.1,
        late_milliseconds=1.0,
        phases=by_phase(moments, moments, np.full(3, 200)),
    )


def test_a_burst_is_three_times_what_one_of_two_can_do():
    times = arrivals(200, seed=1)
    begin, end = PHASES["before"], PHASES["before"] + PHASES["burst"]
    inside = ((times >= begin) & (times < end)).sum()
    assert inside == pytest.approx(100 * BURST * PHASES["burst"], rel=0.05)
    assert len(times) - inside == pytest.approx(100 * CALM * (PHASES["before"] + PHASES["after"]), rel=0.15)
    assert np.array_equal(times, arrivals(200, seed=1))


def test_answers_are_counted_where_they_come_and_refusals_where_they_were_due():
    due = np.array([1.0, 7.9, 10.0, 10.0, 11.0, 12.0, 30.0])
    ended = due + np.array([0.1, 0.2, 0.3, 0.5, 0.01, 0.01, 0.1])
    status = np.array([200, 200, 200, 200, 429, 0, 200])
    found = by_phase(due, ended, status)
    assert found["before"]["answers a second"] == pytest.approx(1 / PHASES["before"])
    assert found["burst"]["answers a second"] == pytest.approx(3 / PHASES["burst"])
    assert (found["burst"]["refused"], found["burst"]["lost"]) == (0.25, 0.25)
    assert found["burst"]["p50"] == pytest.approx(400)
    assert found["after"]["requests"] == 1


def test_two_simulated_replicas_refuse_what_is_beyond_them():
    burst = simulated(measured(peak=200), refusals=False)["burst"]
    assert burst["answers a second"] == pytest.approx(200, rel=0.03)
    # A third is too much, but for what the queues take once, and for where the draw of arrivals fell.
    assert burst["refused"] == pytest.approx(1 - 200 / 300 - 2 * 80 / 6000, abs=0.03)


def test_refusals_that_take_time_are_simulated_as_measured():
    free, dear = (simulated(measured(200, refusal=2.0), refusals)["burst"] for refusals in (False, True))
    assert dear["answers a second"] < 0.9 * free["answers a second"]
    assert dear["refused"] > free["refused"]


@pytest.mark.slow
def test_clients_that_come_back_give_up_less(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(autoscaling, "_BURST_SECONDS", 200.0)
    never, often = (scene(40.0, 2.0, start=10.0, patience=patience) for patience in (0, 5))
    assert 0 < often["given up"] < never["given up"]
    assert never["most replicas"] > 2
    assert never["replicas needed"] == pytest.approx(4.0, rel=0.1)


def test_an_autoscaler_is_better_than_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(autoscaling, "_BURST_SECONDS", 200.0)
    some, none = (scene(40.0, 2.0, start=10.0, patience=0, scales=scales) for scales in (True, False))
    assert some["given up"] < none["given up"] == pytest.approx(0.5, abs=0.05)


def test_the_report_sets_both_side_by_side(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(autoscaling, "_BURST_SECONDS", 60.0)
    settings = {"factor": 1.5, "start": 10.0, "patience": 0}
    rounds = [scene(40.0, **settings, seed=seed) for seed in (0, 1)]
    text = report("a machine", [measured(50)], 40.0, [settings | {"rounds": rounds}])
    table = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 5 + 3
    assert table[:5] == [12] * 5
    assert table[5:] == [11] * 3
