"""Requests share batches and nothing else: not their rows, not their errors, not their deadlines."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.batcher import (
    Batcher,
    BatcherClosedError,
    BatcherError,
    Computed,
    DeadlineError,
    InferenceError,
    QueueFullError,
    RequestTooLargeError,
    buckets,
)
from service.metrics import Metrics
from service.places import Places
from tests.service.fakes import PATIENCE


class Graph:
    """Doubles its input and remembers every batch; between `hold` and `release` it keeps its worker."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.failures: dict[int, Exception] = {}
        self._entered, self._gate = threading.Event(), threading.Event()
        self._gate.set()

    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        rows = inputs["x"][:, 0].astype(int).tolist()
        self.batches.append(rows)
        self._entered.set()
        assert self._gate.wait(PATIENCE)
        for row, failure in self.failures.items():
            if row in rows:
                raise failure
        return {"y": 2 * inputs["x"], "negative": -inputs["x"][:, 0]}

    def hold(self) -> None:
        self._entered.clear()
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    async def entered(self) -> None:
        assert await asyncio.to_thread(self._entered.wait, PATIENCE)


class Scene:
    """A batcher over a Graph, with whatever a test asks of them."""

    def __init__(self, executor: Executor, run: Callable | None, limits: dict[str, int]) -> None:
        self.graph, self.registry = Graph(), CollectorRegistry()
        limits = {"max_batch": 4, "capacity": 16} | limits
        self.places = Places(limits.pop("workers", 1), limits.pop("ahead", 0))
        self.metrics, self._executor, self._limits = Metrics(self.registry), executor, limits
        self.batcher = self.another("decoder", run or self.graph)

    def another(self, name: str, run: Callable) -> Batcher:
        """One more batcher in the same places."""
        return Batcher(name, run, self._executor, self.metrics, places=self.places, **self._limits)

    async def submit(self, *rows: int, timeout: float = PATIENCE) -> asyncio.Task[Computed]:
        """A request that has been admitted or refused by the time this returns."""
        values = np.asarray(rows, np.float32)[:, None].repeat(2, axis=1)
        task = asyncio.create_task(self.batcher.submit({"x": values}, timeout))
        await asyncio.sleep(0)
        return task

    async def occupy(self, row: int = 900) -> asyncio.Task[Computed]:
        """A request that keeps the only worker until `graph.release()`."""
        self.graph.hold()
        task = await self.submit(row)
        await self.graph.entered()
        return task

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"facet_{name}", labels or {"graph": "decoder"}) or 0.0

    @property
    def waiting(self) -> float:
        return self.value("queue_images")


@asynccontextmanager
async def scene(executor: Executor | None = None, run: Callable | None = None, **limits: int) -> AsyncIterator[Scene]:
    with nullcontext(executor) if executor else ThreadPoolExecutor(4) as pool:
        found = Scene(pool, run, limits)
        try:
            yield found
        finally:
            found.graph.release()
            await found.batcher.close()


def play(story: Coroutine[Any, Any, None]) -> None:
    """Run one test's story; one that hangs fails."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await story

    asyncio.run(bounded())


def is_for(computed: Computed, *rows: int) -> bool:
    expected = np.asarray(rows, np.float32)
    return (
        computed.outputs["y"].tolist() == (2 * expected[:, None].repeat(2, axis=1)).tolist()
        and computed.outputs["negative"].tolist() == (-expected).tolist()
    )


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])],
)
def test_buckets_are_powers_of_two_and_the_largest_batch(largest: int, sizes: list[int]):
    assert buckets(largest) == sizes


def test_a_lone_request_runs_at_once():
    async def story():
        async with scene() as s:
            assert is_for(await (await s.submit(7)), 7)
            assert s.graph.batches == [[7]]

    play(story())


def test_each_request_gets_its_own_rows_back():
    async def story():
        async with scene() as s:
            await s.occupy()
            requests = {rows: await s.submit(*rows) for rows in [(1,), (2, 3), (4, 5, 6), (7,), (8, 9, 10, 11, 12)]}
            s.graph.release()
            for rows, task in requests.items():
                assert is_for(await task, *rows)

    play(story())


def test_requests_that_wait_together_share_a_batch():
    async def story():
        async with scene() as s:
            await s.occupy()
            tasks = [await s.submit(1), await s.submit(2, 3), await s.submit(4)]
            s.graph.release()
            await asyncio.gather(*tasks)
            assert len(s.graph.batches) == 2
            assert sorted(s.graph.batches[1]) == [1, 2, 3, 4]

    play(story())


@pytest.mark.parametrize("max_batch", [1, 3, 4])
def test_batches_are_buckets_and_never_larger_than_the_largest(max_batch: int):
    async def story():
        async with scene(max_batch=max_batch, capacity=100) as s:
            await s.occupy()
            tasks = [await s.submit(*range(first, first + size)) for first, size in [(0, 5), (10, 1), (20, 9), (30, 2)]]
            s.graph.release()
            await asyncio.gather(*tasks)
            assert {len(batch) for batch in s.graph.batches} <= set(buckets(max_batch))
            computed = {row for batch in s.graph.batches for row in batch}
            assert computed == {900, *range(5), 10, *range(20, 29), 30, 31}

    play(story())


def test_padding_repeats_a_row_and_is_cut_off_again():
    async def story():
        async with scene() as s:
            assert is_for(await (await s.submit(1, 2, 3)), 1, 2, 3)
            assert s.graph.batches == [[1, 2, 3, 3]]

    play(story())


@pytest.mark.parametrize(("waiting", "sizes"), [(4, [4]), (7, [4, 2, 1]), (3, [2, 1])])
def test_without_padding_a_batch_shrinks_to_a_bucket(waiting: int, sizes: list[int]):
    async def story():
        async with scene(padding=False) as s:
            occupant = await s.occupy()
            tasks = [await s.submit(row) for row in range(waiting)]
            s.graph.release()
            for row, task in enumerate(tasks):
                assert is_for(await task, row)
            await occupant
            assert [len(batch) for batch in s.graph.batches] == [1, *sizes]
            assert s.value("batch_padding_images_total") == 0

    play(story())


@pytest.mark.parametrize("ahead", [0, 1])
def test_without_padding_idle_workers_share_what_waits(ahead: int):
    async def story():
        async with scene(padding=False, workers=2, ahead=ahead) as s:
            assert is_for(await (await s.submit(0, 1, 2, 3)), 0, 1, 2, 3)
            assert [len(batch) for batch in s.graph.batches] == [2, 2]

    play(story())


def test_nobody_is_computed_twice_or_left_out():
    async def story():
        async with scene(capacity=100, workers=3) as s:
            sizes = [3, 1, 7, 4, 2, 9, 1, 5]
            tasks, first = [], 0
            for size in sizes:
                tasks.append((first, size, await s.submit(*range(first, first + size))))
                first += size
            for start, size, task in tasks:
                assert is_for(await task, *range(start, start + size))
            padding = s.value("batch_padding_images_total")
            assert sum(len(batch) for batch in s.graph.batches) == sum(sizes) + padding

    play(story())


def test_a_large_request_is_split_and_a_small_one_is_not_starved():
    async def story():
        async with scene() as s:
            await s.occupy()
            large = await s.submit(*range(100, 112))
            small = await s.submit(1)
            s.graph.release()
            assert is_for(await large, *range(100, 112))
            assert is_for(await small, 1)
            assert 1 in s.graph.batches[1]
            assert len(set(s.graph.batches[1])) == 4

    play(story())


def test_small_requests_keep_their_turn_between_two_large_ones():
    async def story():
        async with scene(capacity=100) as s:
            await s.occupy()
            large = [await s.submit(*range(first, first + 20)) for first in (100, 200)]
            small = [await s.submit(row) for row in (1, 2)]
            s.graph.release()
            await asyncio.gather(*large, *small)
            assert {1, 2} <= set(s.graph.batches[1])

    play(story())


def test_a_batch_ahead_is_handed_over_before_a_worker_is_free():
    async def story():
        with ThreadPoolExecutor(1) as pool:
            async with scene(pool, padding=False, ahead=1) as s:
                await s.occupy()
                handed_over = await s.submit(1)
                assert s.waiting == 0
                waiting = await s.submit(2)
                assert s.waiting == 1
                assert s.batcher.most_images == 16 + 2 * 4
                s.graph.release()
                assert is_for(await handed_over, 1)
                assert is_for(await waiting, 2)
                assert s.graph.batches == [[900], [1], [2]]

    play(story())


def test_batchers_that_share_places_take_turns_by_who_waited_longest():
    ran: list[str] = []

    def other(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        ran.append("other")
        return {"y": inputs["x"]}

    async def story():
        with ThreadPoolExecutor(1) as pool:
            async with scene(pool, padding=False) as s:
                beside, one = s.another("encoder", other), {"x": np.zeros((1, 2), np.float32)}
                await s.occupy()
                tasks = [await s.submit(1)]
                tasks.append(asyncio.create_task(beside.submit(one, PATIENCE)))
                await asyncio.sleep(0)
                # Nothing was handed over, so what comes later still finds room in the batch that waits.
                tasks += [await s.submit(2), asyncio.create_task(beside.submit(one, PATIENCE))]
                await asyncio.sleep(0)
                assert (s.places.free, s.places.idle) == (0, 0)
                s.graph.release()
                await asyncio.gather(*tasks)
                assert s.graph.batches == [[900], [1, 2]]
                assert ran == ["other"]
                assert (s.places.free, s.places.idle) == (1, 1)
                await beside.close()

    play(story())


def test_a_large_request_of_one_batcher_does_not_stand_before_anothers():
    order: list[str] = []

    def run(name: str):
        def graph(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            order.append(name)
            return {"y": inputs["x"]}

        return graph

    async def story():
        with ThreadPoolExecutor(1) as pool:
            async with scene(pool, padding=False, capacity=100, run=run("large")) as s:
                beside = s.another("encoder", run("small"))
                large = await s.submit(*range(40))  # ten batches of four
                await beside.submit({"x": np.zeros((1, 2), np.float32)}, PATIENCE)
                assert len(order) <= 3  # one ran, one may have been next
                await large

    play(story())


def test_a_batcher_that_closes_waits_for_requests_that_found_no_place():
    async def story():
        with ThreadPoolExecutor(1) as pool:
            async with scene(pool, padding=False) as s:
                beside = s.another("encoder", lambda inputs: {"y": inputs["x"]})
                await s.occupy()
                asked = asyncio.create_task(beside.submit({"x": np.zeros((1, 2), np.float32)}, PATIENCE))
                await asyncio.sleep(0)
                closing = asyncio.create_task(beside.close())
                await asyncio.sleep(0.01)
                assert not closing.done()
                s.graph.release()
                await closing
                assert asked.done()
                assert (await asked).outputs["y"].shape == (1, 2)

    play(story())


def test_what_waits_for_the_same_places_counts_where_time_is_told():
    async def story():
        with ThreadPoolExecutor(1) as pool:
            async with scene(pool, padding=False) as s:
                beside = s.another("encoder", lambda inputs: {"y": inputs["x"]})
                assert s.batcher.most_images == 16  # the other may have all places
                await s.occupy()
                alone = s.batcher.seconds_for(4)
                asked = asyncio.create_task(beside.submit({"x": np.zeros((6, 2), np.float32)}, PATIENCE))
                await asyncio.sleep(0)
                assert s.batcher.seconds_for(4) == pytest.approx(alone + beside.seconds_for(6))
                assert beside.seconds_for(6) == pytest.approx(beside.seconds_for(12) / 2)
                s.graph.release()
                await asked

    play(story())


def test_a_batcher_that_dies_leaves_its_place_to_others():
    def dies(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise BrokenExecutor

    async def story():
        async with scene() as s:
            beside = s.another("encoder", dies)
            with pytest.raises(BatcherClosedError):
                await beside.submit({"x": np.zeros((1, 2), np.float32)}, PATIENCE)
            assert is_for(await (await s.submit(7)), 7)

    play(story())


def test_as_many_batches_run_at_once_as_there_are_workers():
    together = threading.Barrier(2)

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        together.wait(PATIENCE)
        return {"y": inputs["x"]}

    async def story():
        async with scene(run=run, workers=2, max_batch=1) as s:
            tasks = [await s.submit(1), await s.submit(2)]
            assert [task.outputs["y"][0, 0] for task in await asyncio.gather(*tasks)] == [1, 2]

    play(story())


def test_a_full_queue_refuses_with_a_time_to_retry():
    async def story():
        async with scene(capacity=3) as s:
            running = await s.occupy()
            waiting = await s.submit(1, 2, 3)
            with pytest.raises(QueueFullError) as caught:
                await (await s.submit(4))
            assert caught.value.retry_after > 0
            assert s.value("requests_rejected_total", reason="queue_full") == 1
            s.graph.release()
            assert is_for(await running, 900)
            assert is_for(await waiting, 1, 2, 3)

    play(story())


def test_after_a_refusal_there_is_room_again():
    async def story():
        async with scene(capacity=1) as s:
            running, waiting = await s.occupy(), await s.submit(1)
            with pytest.raises(QueueFullError):
                await (await s.submit(2))
            s.graph.release()
            await asyncio.gather(running, waiting)
            assert is_for(await (await s.submit(3)), 3)

    play(story())


def test_a_request_that_can_never_fit_is_told_so():
    async def story():
        async with scene(capacity=3) as s:
            with pytest.raises(RequestTooLargeError, match=r"4 .*3"):
                await (await s.submit(1, 2, 3, 4))
            assert s.waiting == 0
            assert s.graph.batches == []

    play(story())


def test_work_whose_time_is_up_is_dropped_before_it_reaches_a_batch():
    async def story():
        async with scene() as s:
            running = await s.occupy()
            with pytest.raises(DeadlineError, match="ran out"):
                await (await s.submit(1, 2, timeout=0.01))
            assert s.waiting == 0
            s.graph.release()
            await running
            await (await s.submit(3))
            assert s.graph.batches == [[900], [3]]

    play(story())


def test_a_deadline_also_ends_what_is_already_running():
    async def story():
        async with scene() as s:
            s.graph.hold()
            task = await s.submit(1, timeout=0.01)
            with pytest.raises(DeadlineError):
                await task
            s.graph.release()
            assert is_for(await (await s.submit(2)), 2)

    play(story())


def test_cancelling_withdraws_what_waits():
    async def story():
        async with scene() as s:
            running = await s.occupy()
            gone, stays = await s.submit(1, 2), await s.submit(3)
            gone.cancel()
            await asyncio.wait([gone])
            assert gone.cancelled()
            assert s.waiting == 1
            s.graph.release()
            await asyncio.gather(running, stays)
            assert s.graph.batches == [[900], [3]]

    play(story())


def test_cancelling_a_request_that_runs_in_part_withdraws_the_rest():
    async def story():
        async with scene() as s:
            s.graph.hold()
            gone = await s.submit(*range(10))
            await s.graph.entered()
            assert s.waiting == 6
            gone.cancel()
            await asyncio.wait([gone])
            assert s.waiting == 0
            s.graph.release()
            assert is_for(await (await s.submit(50)), 50)
            assert s.graph.batches == [[0, 1, 2, 3], [50]]

    play(story())


def test_one_bad_request_fails_alone():
    async def story():
        async with scene() as s:
            s.graph.failures[13] = ValueError("swordfish")
            await s.occupy()
            good, bad, other = await s.submit(1), await s.submit(13), await s.submit(2, 3)
            s.graph.release()
            assert is_for(await good, 1)
            assert is_for(await other, 2, 3)
            with pytest.raises(InferenceError) as caught:
                await bad
            assert "swordfish" not in str(caught.value)
            assert s.value("inference_errors_total", kind="ValueError") >= 1
            assert s.batcher.failure is None
            assert is_for(await (await s.submit(4)), 4)

    play(story())


def test_batches_are_numbered_and_a_request_knows_those_that_carried_it():
    async def story():
        async with scene() as s:
            first = await s.occupy()
            large, small = await s.submit(*range(5)), await s.submit(10)
            s.graph.release()
            assert (await first).batches == [(1, 1)]
            assert (await small).batches == [(2, 4)]
            assert (await large).batches == [(2, 4), (3, 2)]

    play(story())


def test_a_batch_that_is_run_again_one_by_one_has_new_numbers():
    async def story():
        async with scene() as s:
            s.graph.failures[13] = ValueError()
            await s.occupy()
            good, bad = await s.submit(1), await s.submit(13)
            s.graph.release()
            assert (await good).batches == [(2, 2), (3, 1)]
            with pytest.raises(InferenceError, match="in batch 4"):
                await bad

    play(story())


def test_whoever_waits_is_told_the_batch_when_it_begins():
    async def story():
        async with scene() as s:
            told = []
            await s.occupy()
            waiting = asyncio.create_task(s.batcher.submit({"x": np.zeros((6, 2))}, PATIENCE, told.append))
            await asyncio.sleep(0)
            assert told == []
            s.graph.release()
            await waiting
            assert told == [(2, 4)]

    play(story())


def test_a_large_request_that_fails_in_part_fails_and_leaves_the_queue():
    async def story():
        async with scene() as s:
            s.graph.failures[2] = ValueError()
            with pytest.raises(InferenceError):
                await (await s.submit(*range(12)))
            assert s.waiting == 0
            assert is_for(await (await s.submit(50)), 50)

    play(story())


def short(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"y": inputs["x"][:-1]}


@pytest.mark.parametrize("rows", [(1, 2), (1, 2, 3, 4)])
def test_a_graph_that_loses_rows_fails_its_request_at_once(rows: tuple[int, ...]):
    async def story():
        async with scene(run=short) as s:
            with pytest.raises(BatcherError) as caught:
                await (await s.submit(*rows, timeout=1))
            assert not isinstance(caught.value, DeadlineError)

    play(story())


def test_when_the_worker_dies_everybody_fails_at_once():
    async def story():
        async with scene() as s:
            s.graph.failures[900] = BrokenThreadPool("out of threads")
            running = await s.occupy()
            waiting = [await s.submit(1), await s.submit(2, 3)]
            s.graph.release()
            results = await asyncio.gather(running, *waiting, return_exceptions=True)
            assert [type(result) for result in results] == [BatcherClosedError] * 3
            assert isinstance(s.batcher.failure, BrokenThreadPool)
            assert s.waiting == 0
            with pytest.raises(BatcherClosedError):
                await (await s.submit(4))

    play(story())


def test_a_pool_without_threads_kills_the_batcher():
    def no_thread() -> None:
        raise RuntimeError("no more threads")

    async def story():
        with ThreadPoolExecutor(1, initializer=no_thread) as broken:
            async with scene(broken) as s:
                with pytest.raises(BatcherClosedError):
                    await (await s.submit(1))
                assert s.batcher.failure is not None

    play(story())


def test_when_the_worker_dies_while_a_bad_batch_is_sorted_out_nobody_is_left_waiting():
    async def story():
        async with scene() as s:
            await s.occupy()
            s.graph.failures = {2: ValueError(), 1: BrokenThreadPool("out of threads")}
            tasks = [await s.submit(row, timeout=1) for row in (1, 2, 3)]
            s.graph.release()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(s.batcher.failure, BrokenThreadPool)
            assert [type(result) for result in results] == [BatcherClosedError] * 3

    play(story())


def test_closing_finishes_what_was_admitted_and_refuses_the_rest():
    async def story():
        async with scene() as s:
            running = await s.occupy()
            waiting = await s.submit(*range(10))
            closing = asyncio.create_task(s.batcher.close())
            await asyncio.sleep(0)
            with pytest.raises(BatcherClosedError):
                await (await s.submit(50))
            assert not closing.done()
            s.graph.release()
            await closing
            assert is_for(await running, 900)
            assert is_for(await waiting, *range(10))
            assert s.batcher.failure is None

    play(story())


def test_closing_twice_or_idle_is_fine():
    async def story():
        async with scene() as s:
            await s.batcher.close()
            await s.batcher.close()

    play(story())


def test_batches_padding_and_queue_are_counted():
    async def story():
        async with scene(capacity=7) as s:
            assert s.value("queue_capacity_images") == 7
            running = await s.occupy()
            assert s.waiting == 0
            tasks = [await s.submit(1, 2), await s.submit(3)]
            assert s.waiting == 3
            s.graph.release()
            await asyncio.gather(running, *tasks)
            assert s.waiting == 0
            assert s.value("batches_total") == 2
            assert s.value("batch_padding_images_total") == 1
            assert s.value("batch_images_sum") == 4
            assert s.value("batch_duration_seconds_count") == 2
            assert s.value("queue_wait_seconds_count") == 3

    play(story())


def test_a_request_is_told_how_long_it_waited():
    async def story():
        async with scene() as s:
            running = await s.occupy()
            waiting = await s.submit(1)
            s.graph.release()
            assert (await waiting).queue_seconds > (await running).queue_seconds >= 0

    play(story())


@pytest.mark.parametrize("fair", [3, 5])
def test_equal_requests_get_equal_shares_of_the_first_batches(fair: int):
    async def story():
        async with scene(max_batch=2 * fair, capacity=100) as s:
            await s.occupy()
            tasks = [await s.submit(*range(100 * i, 100 * i + 10)) for i in range(fair)]
            s.graph.release()
            await asyncio.gather(*tasks)
            assert Counter(row // 100 for row in s.graph.batches[1]) == dict.fromkeys(range(fair), 2)

    play(story())
