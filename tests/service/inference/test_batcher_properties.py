"""Random arrivals, sizes, failures, departures and deadlines, on a clock that only moves when nothing else happens."""

from __future__ import annotations

import asyncio
import selectors
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.errors import BatcherError, DeadlineError, InferenceError, QueueFullError
from service.inference.batcher import Batcher, Computed, buckets
from service.inference.worker_slots import WorkerSlots
from service.telemetry.metrics import Metrics

BAD = 7.0  # a row that no graph survives


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list:
        assert timeout is not None, "everybody waits and nothing will ever happen"
        self._loop.now += max(0.0, timeout)
        return super().select(0)


class Workers(Executor):
    """Threads of the virtual clock: each call takes `seconds` per row, and at most `count` run at once."""

    def __init__(self, loop: VirtualTime, count: int, seconds: float) -> None:
        self._loop, self._count, self._seconds = loop, count, seconds
        self.running = 0

    def submit(self, work, /, *arguments):
        future: Future = Future()
        self.running += 1
        assert self.running <= self._count
        bucket = arguments[-1]

        def finish() -> None:
            self.running -= 1
            try:
                future.set_result(work(*arguments))
            except Exception as exc:
                future.set_exception(exc)

        self._loop.call_later(self._seconds * bucket, finish)
        return future


@dataclass
class Graph:
    """Answers each row with its own number; refuses batches that hold a bad row."""

    sizes: list[int] = field(default_factory=list)
    computed: list[float] = field(default_factory=list)

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.sizes.append(len(inputs["id"]))
        if (inputs["bad"] == BAD).any():
            raise ValueError("a bad row")
        self.computed.extend(inputs["id"].tolist())
        return {"echo": inputs["id"].copy()}


@dataclass(frozen=True)
class Visitor:
    """A request: when it comes, how many images, how long it waits, when it leaves (if it does), and if it is bad."""

    arrives: float
    size: int
    timeout: float
    leaves: float | None
    bad: bool


visitors = st.lists(
    st.builds(
        Visitor,
        arrives=st.floats(0, 0.2),
        size=st.integers(1, 30),
        timeout=st.sampled_from([0.005, 0.05, 10.0]),
        leaves=st.none() | st.floats(0, 0.1),
        bad=st.sampled_from([False] * 5 + [True]),
    ),
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=250, deadline=None)
@given(
    crowd=visitors,
    max_batch=st.sampled_from([1, 3, 8, 16]),
    capacity=st.sampled_from([5, 32, 400]),
    workers=st.integers(1, 3),
    seconds=st.sampled_from([0.0001, 0.002]),
    padding=st.booleans(),
    prefetch=st.integers(0, 2),
    graphs=st.integers(1, 2),
)
def test_every_admitted_image_is_answered_once_with_its_own_result(
    crowd, max_batch, capacity, workers, seconds, padding, prefetch, graphs
):
    loop = VirtualTime()
    registry = CollectorRegistry()
    graph, executor = Graph(), Workers(loop, workers + prefetch, seconds)

    async def visit(batcher: Batcher, number: int, visitor: Visitor) -> Computed | BaseException:
        await asyncio.sleep(visitor.arrives)
        ids = number * 1000.0 + np.arange(visitor.size)
        bad = np.zeros(visitor.size)
        bad[-1] = BAD if visitor.bad else 0.0
        requested = loop.time()
        task = asyncio.ensure_future(batcher.submit({"id": ids, "bad": bad}, visitor.timeout))
        if visitor.leaves is not None:
            loop.call_later(visitor.leaves, task.cancel)
        (answer,) = await asyncio.gather(task, return_exceptions=True)
        assert loop.time() - requested <= visitor.timeout + 1e-9  # nobody waits longer than they said
        assert 0 <= batcher._waiting <= capacity
        return answer

    async def story() -> list[Computed | BaseException]:
        slots, metrics = WorkerSlots(workers, prefetch), Metrics(registry)
        batchers = [
            Batcher(
                "decoder", graph, executor, metrics,
                max_batch=max_batch, capacity=capacity, slots=slots, padding=padding,
            )
            for _ in range(graphs)
        ]  # fmt: skip
        visits = (visit(batchers[number % graphs], number, visitor) for number, visitor in enumerate(crowd))
        answers = await asyncio.gather(*visits)
        for batcher in batchers:
            await batcher.close()
            assert batcher._waiting == 0  # nothing leaks
            assert not batcher._jobs
            assert not batcher._running
            assert batcher.failure is None
        assert slots.free == slots.count
        return answers

    try:
        answers = loop.run_until_complete(story())
    finally:
        loop.close()
    assert executor.running == 0
    assert set(graph.sizes) <= set(buckets(max_batch))
    for number, (visitor, answer) in enumerate(zip(crowd, answers, strict=True)):
        if isinstance(answer, Computed):
            assert answer.outputs["echo"].tolist() == [number * 1000.0 + row for row in range(visitor.size)]
            assert not visitor.bad
        elif isinstance(answer, asyncio.CancelledError):
            assert visitor.leaves is not None
        elif isinstance(answer, DeadlineError):
            assert visitor.timeout < 10
        elif isinstance(answer, InferenceError):
            assert visitor.bad  # a bad request never fails its neighbours
        elif isinstance(answer, QueueFullError):
            assert answer.retry_after > 0
        else:
            assert isinstance(answer, BatcherError)
            assert visitor.size > capacity
    assert registry.get_sample_value("facet_queue_images", {"graph": "decoder"}) == 0
    # Only a bad batch is run again, row by row, and only padding repeats a row.
    if not any(visitor.bad for visitor in crowd):
        padding = registry.get_sample_value("facet_batch_padding_images_total", {"graph": "decoder"}) or 0
        assert len(graph.computed) - len(set(graph.computed)) == padding


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=2, max_size=8), max_batch=st.sampled_from([4, 8, 16]))
def test_nobody_waits_for_more_than_their_fair_share(sizes, max_batch):
    """With one worker, a request of n images is done about when everybody has had n images, or all of theirs."""
    loop = VirtualTime()
    finished: dict[int, int] = {}
    graph = Graph()

    async def story() -> None:
        batcher = Batcher(
            "decoder", graph, Workers(loop, 1, 0.001), Metrics(CollectorRegistry()),
            max_batch=max_batch, capacity=1000, slots=WorkerSlots(1),
        )  # fmt: skip

        async def visit(number: int, size: int) -> None:
            ids = number * 1000.0 + np.arange(size)
            await batcher.submit({"id": ids, "bad": np.zeros(size)}, timeout=1000.0)
            finished[number] = len(set(graph.computed))

        await asyncio.gather(*(visit(number, size) for number, size in enumerate(sizes)))

    try:
        loop.run_until_complete(story())
    finally:
        loop.close()
    for number, size in enumerate(sizes):
        fair = sum(min(other, size) for other in sizes)
        # One batch is under way when the rest arrives, one is the last, and in one turns are not yet even.
        assert finished[number] <= fair + 3 * max_batch
