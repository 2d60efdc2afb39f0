"""Limits in images hold whatever comes, in time and at once, and give back what was not delivered."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from service.auth.rate_limits import Limits, Reservation, TokenBucket
from service.errors import Problem
from service.server.limits import BodyBudget
from service.telemetry.metrics import Metrics


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """An allowance, its clock, and what it has refused."""

    def __init__(self, **limits: float) -> None:
        self.clock, self.metrics = Clock(), Metrics(CollectorRegistry())
        self.allowance = TokenBucket(Limits(**limits), self.metrics.rejected, self.clock)

    def take(self, images: int) -> Reservation:
        hold = self.allowance.reservation()
        hold.raise_to(images)
        return hold

    def refusal(self, images: int) -> Problem:
        with pytest.raises(Problem) as caught:
            self.take(images)
        return caught.value

    def refused(self, reason: str) -> float:
        return self.metrics.registry.get_sample_value("facet_requests_rejected_total", {"reason": reason})


def seconds(problem: Problem) -> int:
    return int(problem.headers["Retry-After"])


def test_without_limits_everything_passes():
    desk = Desk()
    assert [desk.take(10_000).images for _ in range(3)] == [10_000] * 3


def test_a_bucket_fills_at_its_rate_up_to_its_size():
    desk = Desk(images_per_second=2, burst=10)
    desk.take(10)
    problem = desk.refusal(3)
    assert (problem.status, seconds(problem)) == (429, 2)
    assert "2 images per second" in problem.detail
    assert desk.refused("rate_limited") == 1
    desk.clock.now = 1.5
    desk.take(3)
    desk.clock.now = 1000
    desk.take(10)
    assert desk.refusal(1).status == 429


def test_a_request_may_turn_out_to_be_larger():
    desk = Desk(images_per_second=1, burst=5)
    hold = desk.take(1)
    hold.raise_to(4)
    hold.raise_to(2)  # never less
    assert (hold.images, desk.allowance.in_flight) == (4, 4)
    with pytest.raises(Problem, match="6 images in one request; this key may ask for 5 at once"):
        hold.raise_to(6)
    hold.close(delivered=True)
    assert desk.allowance.in_flight == 0


def test_what_never_fits_is_too_large_and_not_too_early():
    assert Desk(images_per_second=1, burst=5).refusal(6).status == 413
    assert Desk(images_in_flight=3).refusal(4).status == 413


def test_so_many_images_may_be_under_way():
    desk = Desk(images_in_flight=3)
    first, _ = desk.take(2), desk.take(1)
    desk.clock.now = 9
    problem = desk.refusal(1)
    assert problem.status == 429
    assert "3 images under way" in problem.detail
    assert desk.refused("images_in_flight") == 1
    assert desk.refused("rate_limited") == 0
    first.close(delivered=False)
    desk.take(2)


def test_the_wait_for_a_place_is_how_long_requests_last():
    desk = Desk(images_in_flight=1)
    for _ in range(100):
        hold = desk.take(1)
        desk.clock.now += 7
        hold.close(delivered=True)
    desk.take(1)
    assert seconds(desk.refusal(1)) == 7


def test_what_was_not_delivered_may_be_requested_again():
    desk = Desk(images_per_second=1, burst=4)
    desk.take(4).close(delivered=False)
    desk.take(4).close(delivered=True)
    assert desk.refusal(1).status == 429


def test_closing_twice_gives_back_once():
    desk = Desk(images_per_second=1, burst=4, images_in_flight=4)
    hold = desk.take(4)
    hold.close(delivered=False)
    hold.close(delivered=False)
    assert desk.allowance.in_flight == 0
    desk.take(4)
    assert desk.refusal(1).status == 429


@pytest.mark.parametrize(("rate", "burst"), [(1, 64), (64, 64), (100.5, 101)])
def test_a_burst_is_by_default_a_large_request_or_a_second(rate: float, burst: int):
    assert Limits(images_per_second=rate).capacity == burst


@pytest.mark.parametrize("limits", [{"images_per_second": 0}, {"burst": 0}, {"images_in_flight": -1}, {"images": 1}])
def test_senseless_limits_are_refused(limits: dict[str, float]):
    with pytest.raises(ValidationError):
        Limits(**limits)


def test_changed_limits_hold_at_once():
    desk = Desk(images_in_flight=2)
    desk.take(2)
    desk.allowance.change(Limits(images_in_flight=3, images_per_second=1, burst=3))
    desk.take(1)
    assert desk.refusal(1).status == 429
    desk.allowance.change(Limits(images_per_second=1, burst=3))
    desk.take(2)
    assert desk.refusal(1).status == 429
    desk.allowance.change(Limits())
    desk.take(1000)


class AnyStory(RuleBasedStateMachine):
    """Requests that come, grow, end well or badly, at any times."""

    RATE, BURST, PLACES = 3.0, 8, 12

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(images_per_second=self.RATE, burst=self.BURST, images_in_flight=self.PLACES)
        self.open: list[Reservation] = []
        self.delivered = 0

    @rule(elapsed=st.floats(0, 5))
    def wait(self, elapsed: float) -> None:
        self.desk.clock.now += elapsed

    @rule(images=st.integers(1, 10))
    def come(self, images: int) -> None:
        self._try(self.desk.allowance.reservation(), images)

    @precondition(lambda self: self.open)
    @rule(images=st.integers(1, 10), data=st.data())
    def grow(self, images: int, data: st.DataObject) -> None:
        self._try(data.draw(st.sampled_from(self.open)), images)

    @precondition(lambda self: self.open)
    @rule(delivered=st.booleans(), data=st.data())
    def end(self, delivered: bool, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(self.open))
        self.open.remove(hold)
        self.delivered += hold.images if delivered else 0
        hold.close(delivered)

    def _try(self, hold: Reservation, images: int) -> None:
        before = hold.images, self.desk.allowance.in_flight
        refusal = None
        try:
            hold.raise_to(images)
        except Problem as problem:
            refusal = problem
        if refusal:
            assert (hold.images, self.desk.allowance.in_flight) == before
            assert (refusal.status == 413) == (images > self.BURST)
            if "per second" not in refusal.detail:
                return
            self.desk.clock.now += seconds(refusal)
            hold.raise_to(images)  # now there is room for it
        if hold not in self.open:
            self.open.append(hold)

    @invariant()
    def at_once_and_in_time(self) -> None:
        held = sum(hold.images for hold in self.open)
        assert self.desk.allowance.in_flight == held <= self.PLACES
        assert self.delivered + held <= self.BURST + self.RATE * self.desk.clock.now + 1e-6

    def teardown(self) -> None:
        """What is not delivered leaves no trace: the bucket is as full as if only the rest had been asked for."""
        for hold in self.open:
            hold.close(delivered=False)
        assert self.desk.allowance.in_flight == 0
        self.desk.clock.now += self.BURST / self.RATE
        self.desk.take(self.BURST)


AnyStory.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAnyStory = AnyStory.TestCase


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 8), st.booleans(), st.floats(0, 3)), max_size=30))
def test_failures_cost_nothing(requests: list[tuple[int, bool, float]]):
    """Beside an allowance that never sees them, one that sees failures too admits the same."""
    both, delivered_only = (Desk(images_per_second=2, burst=8) for _ in range(2))
    for images, delivered, elapsed in requests:
        for desk in (both, delivered_only):
            desk.clock.now += elapsed
        admitted = []
        for desk in (both, delivered_only) if delivered else (both,):
            try:
                desk.take(images).close(delivered)
                admitted.append(True)
            except Problem:
                admitted.append(False)
        assert len(set(admitted)) == 1


def test_bodies_are_bounded_together_but_one_always_passes():
    metrics = Metrics(CollectorRegistry())
    bodies = BodyBudget(100, metrics)
    bodies.check(0, 1000)  # alone
    bodies.held = 60
    bodies.check(0, 40)
    bodies.check(60, 1000)  # all that is held is its own
    with pytest.raises(Problem) as caught:
        bodies.check(10, 41)
    assert caught.value.status == 429
    assert caught.value.headers["Retry-After"] == "1"
    value = metrics.registry.get_sample_value
    assert value("facet_requests_rejected_total", {"reason": "bodies_full"}) == 1
    assert value("facet_request_body_bytes") == 60
