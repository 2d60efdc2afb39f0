"""Growth is told from noise, by slopes that outliers do not move."""

from __future__ import annotations

import random

import pytest

from benchmarks import soak
from benchmarks.soak import Age, Minute, Record

YOUNG = Age([40.0, 90.0, 41.0], [41.0, 80.0, 40.0])


def minutes(memory: list[float], p99: float = 100.0, statuses: dict[int, int] | None = None) -> list[Minute]:
    return [Minute(m, 20, 12, 10.0, p99, statuses or {200: 500, 400: 100}) for m in memory]


def noisy(level: float, step: float, count: int = 60) -> list[float]:
    rng = random.Random(0)
    return [level + step * n + rng.uniform(-5, 5) for n in range(count)]


def test_the_slope_is_that_of_the_line_and_outliers_do_not_move_it():
    values = [3.0 * n for n in range(30)]
    assert soak.slope(values) == pytest.approx(3)
    values[7] = 1e6
    assert soak.slope(values) == pytest.approx(3)
    assert soak.slope([1.0]) == 0


def test_a_leak_is_found_and_noise_is_not():
    assert soak.growth(minutes(noisy(400, 0)))["memory_megabytes"].flat
    leaking = soak.growth(minutes(noisy(400, 1)))["memory_megabytes"]
    assert not leaking.flat
    assert leaking.grown == pytest.approx(53, rel=0.1)  # a megabyte a minute


def test_memory_that_settles_first_is_no_leak():
    assert soak.growth(minutes([200, 300, 350, 380, 390, 400, *noisy(400, 0, 54)]))["memory_megabytes"].flat


def test_what_shrinks_is_flat():
    assert soak.growth(minutes(noisy(400, -1)))["memory_megabytes"].flat


def test_faults_are_what_clients_that_stayed_did_not_get():
    assert soak.faults({0: 1, 200: 5, 422: 3, 429: 2, 503: 4}) == 5


def growing_latency() -> list[Minute]:
    return [Minute(400, 20, 12, 10.0, 40.0 + n, {200: 500}) for n in range(60)]


def test_latency_that_grows_for_a_fresh_server_too_is_the_machines():
    record = Record(100.0, growing_latency(), YOUNG)
    assert record.verdicts["p99"] == "the machine's"
    assert record.passed


@pytest.mark.parametrize("shown", [growing_latency(), minutes(noisy(400, 0))])
def test_a_server_that_is_slower_than_a_fresh_one_has_aged_whatever_the_slope_says(shown):
    record = Record(100.0, shown, Age([60.0, 52.0, 30.0], [40.0, 40.0, 40.0]))  # the median pair: 1.3
    assert record.age.quartiles == pytest.approx((1.025, 1.3, 1.4))
    assert record.verdicts["p99"] == "GROWS"
    assert not record.passed


def test_faults_fail_the_soak():
    assert Record(100.0, minutes(noisy(400, 0)), YOUNG).passed
    broken = Record(100.0, minutes([400.0] * 60, statuses={200: 5, 503: 1}), YOUNG)
    assert (broken.faults, broken.passed) == (60, False)
    late = Record(100.0, minutes([400.0] * 60), Age([40.0, 41.0], [41.0, 40.0], faults=2))
    assert (late.faults, late.passed) == (2, False)
    assert "Faults (5xx, or no answer): 2." in soak.report(late, 0.7, "a machine")


def test_the_report_says_what_grows():
    told = soak.report(Record(100.0, minutes(noisy(400, 1)), YOUNG), 0.7, "a machine")
    assert "| memory_megabytes |" in told
    assert told.count("GROWS") == 1
    assert told.count("flat") == 3
    assert "1.02 times in the median of the pairs, 1.00 and 1.07 in their quartiles (1.25 allowed)" in told
