"""A simulation, event by event, of replicas behind a proxy: bounded queues, batches, 429, and an autoscaler.

Requests are one image each. The proxy gives each to the replica with the fewest under way, as nginx's `least_conn`
does; a replica batches as service.inference.batcher does without padding, and refuses when its queue is full.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.autoscaler import Autoscaler

_NOT_YET, _ANSWERED, _GIVEN_UP = 0, 1, 2


@dataclass(frozen=True)
class Capacity:
    """What one replica can do: `workers` batches at once, and `queue` requests that wait besides.

    A batch takes `batch_seconds` and `seconds` for each of its at most `max_batch` requests. A refusal takes
    `refusal_seconds` of the next batch's time. `exponential` draws each batch's time with that mean instead.
    """

    workers: int
    seconds: float
    batch_seconds: float = 0.0
    max_batch: int = 16
    queue: float = 512
    refusal_seconds: float = 0.0
    exponential: bool = False

    @property
    def rate(self) -> float:
        """Requests a second with full batches."""
        return self.workers / (self.seconds + self.batch_seconds / self.max_batch)


@dataclass(frozen=True)
class Scaling:
    """How replicas come and go. Seconds: from being wanted to being ready, between two scrapes of their metrics, and
    from a scrape until the autoscaler sees it."""

    autoscaler: Autoscaler
    start_seconds: float = 10.0
    scrape_seconds: float = 15.0
    delay_seconds: float = 5.0


@dataclass(frozen=True)
class Moment:
    """What a scrape saw: replicas that are ready, and requests that wait."""

    time: float
    ready: int
    waiting: int


@dataclass
class Trace:
    """What became of each request, in order of arrival, and of all together; times in seconds from the beginning."""

    arrived: np.ndarray
    waited: np.ndarray  # from admission to the batch; NaN where it was never admitted
    ended: np.ndarray
    answered: np.ndarray  # bool
    refused: np.ndarray  # times of 429, of which a request may have got several
    history: list[Moment]
    waiting_area: float  # the integral of the number that waits over time
    replica_seconds: float  # of replicas that were ready or starting

    @property
    def responses(self) -> np.ndarray:
        """Seconds from the first attempt to the answer, of those answered."""
        return (self.ended - self.arrived)[self.answered]


@dataclass(eq=False)
class _Replica:
    idle: int
    waiting: deque[tuple[int, float]] = field(default_factory=deque)
    under_way: int = 0
    served: int = 0
    owed: float = 0.0
    busy: float = 0.0
    busy_before: float = 0.0
    values: dict[str, float] | None = None  # as of the scrape that the autoscaler sees


class Fleet:
    """Replicas and a clock. `patience` is how often a client comes again after 429, when `Retry-After` and up to a
    second more have passed; then it gives up."""

    def __init__(
        self,
        capacity: Capacity,
        replicas: int,
        rng: np.random.Generator,
        scaling: Scaling | None = None,
        patience: int = 0,
    ) -> None:
        self._capacity, self._rng, self._scaling, self._patience = capacity, rng, scaling, patience
        self._ready = [_Replica(capacity.workers) for _ in range(replicas)]
        self._starting: list[_Replica] = []
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._now = self._area = self._replica_seconds = 0.0
        self._waiting = 0
        self._refused: list[float] = []
        self._history: list[Moment] = []

    def run(self, arrivals: np.ndarray) -> Trace:
        """Let requests come at those times, seconds in ascending order, until each is answered or given up."""
        count = len(arrivals)
        self._waited, self._ended = [math.nan] * count, [math.nan] * count
        self._state, self._tries = [_NOT_YET] * count, [0] * count
        left = self._left = count
        if self._scaling:
            self._at(0.0, self._scrape)
            self._at(self._rng.uniform(0, self._scaling.autoscaler.policy.sync_seconds), self._sync)
        times, upcoming = arrivals.tolist(), 0
        while self._left:
            if upcoming < left and (not self._events or times[upcoming] <= self._events[0][0]):
                self._move_to(times[upcoming])
                self._arrive(upcoming)
                upcoming += 1
            else:
                time, _, happen, arguments = heapq.heappop(self._events)
                self._move_to(time)
                happen(*arguments)
        return Trace(
            arrived=np.asarray(arrivals, dtype=float),
            waited=np.array(self._waited),
            ended=np.array(self._ended),
            answered=np.array(self._state) == _ANSWERED,
            refused=np.array(self._refused),
            history=self._history,
            waiting_area=self._area,
            replica_seconds=self._replica_seconds,
        )

    def _at(self, time: float, happen: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._events, (time, next(self._numbers), happen, arguments))

    def _move_to(self, time: float) -> None:
        elapsed = time - self._now
        self._area += elapsed * self._waiting
        self._replica_seconds += elapsed * (len(self._ready) + len(self._starting))
        self._now = time

    def _arrive(self, request: int) -> None:
        replica = min(self._ready, key=lambda each: (each.under_way, each.served))
        if len(replica.waiting) >= self._capacity.queue and not replica.idle:
            self._refuse(request, replica)
            return
        replica.waiting.append((request, self._now))
        replica.under_way += 1
        replica.served += 1
        self._waiting += 1
        self._dispatch(replica)

    def _refuse(self, request: int, replica: _Replica) -> None:
        self._refused.append(self._now)
        replica.owed += self._capacity.refusal_seconds
        self._tries[request] += 1
        if self._tries[request] > self._patience:
            self._end(request, _GIVEN_UP)
            return
        retry_after = max(1, math.ceil(len(replica.waiting) * self._capacity.seconds / self._capacity.workers))
        self._at(self._now + retry_after + self._rng.random(), self._arrive, request)

    def _dispatch(self, replica: _Replica) -> None:
        capacity = self._capacity
        while replica.idle and replica.waiting:
            share = min(capacity.max_batch, math.ceil(len(replica.waiting) / replica.idle))
            batch = []
            for _ in range(1 << share.bit_length() - 1):  # the bucket at or below the share
                request, entered = replica.waiting.popleft()
                self._waited[request] = self._now - entered
                batch.append(request)
            self._waiting -= len(batch)
            seconds = capacity.batch_seconds + capacity.seconds * len(batch) + replica.owed
            replica.owed = 0.0
            if capacity.exponential:
                seconds = self._rng.exponential(seconds)
            replica.idle -= 1
            replica.busy += seconds
            self._at(self._now + seconds, self._finish, replica, batch)

    def _finish(self, replica: _Replica, batch: list[int]) -> None:
        replica.idle += 1
        replica.under_way -= len(batch)
        for request in batch:
            self._end(request, _ANSWERED)
        self._dispatch(replica)

    def _end(self, request: int, state: int) -> None:
        self._state[request], self._ended[request] = state, self._now
        self._left -= 1

    def _scrape(self) -> None:
        scaling, capacity = self._scaling, self._capacity
        for replica in self._ready:
            values = {
                "facet_queue_fill": len(replica.waiting) / capacity.queue,
                "cpu": min(1.0, (replica.busy - replica.busy_before) / (scaling.scrape_seconds * capacity.workers)),
            }
            replica.busy_before = replica.busy
            self._at(self._now + scaling.delay_seconds, setattr, replica, "values", values)
        self._history.append(Moment(self._now, len(self._ready), self._waiting))
        self._at(self._now + scaling.scrape_seconds, self._scrape)

    def _sync(self) -> None:
        scaling, replicas = self._scaling, [*self._ready, *self._starting]
        policy = scaling.autoscaler.policy
        values = {name: [(each.values or {}).get(name) for each in replicas] for name in policy.targets}
        wanted = scaling.autoscaler.wanted(self._now, len(replicas), values)
        for _ in range(wanted - len(replicas)):
            replica = _Replica(self._capacity.workers)
            self._starting.append(replica)
            self._at(self._now + scaling.start_seconds, self._become_ready, replica)
        for _ in range(len(replicas) - wanted):
            # Those that start go first. What the last one has, it finishes.
            (self._starting or self._ready).pop()
        self._at(self._now + policy.sync_seconds, self._sync)

    def _become_ready(self, replica: _Replica) -> None:
        if replica in self._starting:
            self._starting.remove(replica)
            self._ready.append(replica)


def poisson(phases: list[tuple[float, float]], rng: np.random.Generator) -> np.ndarray:
    """Arrival times of phases of (seconds, requests a second), one after the other."""
    times, begin = [], 0.0
    for seconds, rate in phases:
        times.append(begin + np.sort(rng.uniform(0, seconds, rng.poisson(seconds * rate))))
        begin += seconds
    return np.concatenate(times)
