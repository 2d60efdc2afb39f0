"""Worker slots: prefetching, and batchers that share workers."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from service.errors import BatcherClosedError
from tests.service.fakes import PATIENCE
from tests.service.inference.scenes import is_for, play, scene


@pytest.mark.parametrize("prefetch", [0, 1])
def test_without_padding_idle_workers_share_what_waits(prefetch: int):
    async def story():
        async with scene(padding=False, workers=2, prefetch=prefetch) as s:
            assert is_for(await (await s.submit(0, 1, 2, 3)), 0, 1, 2, 3)
            assert [len(batch) for batch in s.graph.batches] == [2, 2]

    play(story())


def test_a_prefetched_batch_is_submitted_before_a_worker_is_free():
    async def story():
        with ThreadPoolExecutor(1) as pool:
            async with scene(pool, padding=False, prefetch=1) as s:
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


def test_batchers_that_share_slots_take_turns_by_who_waited_longest():
    ran: list[str] = []

    def other(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        ran.append("other")
        return {"y": inputs["x"]}

    async def story():
        with ThreadPoolExecutor(1) as pool:
            async with scene(pool, padding=False) as s:
                other_batcher, one = s.another("encoder", other), {"x": np.zeros((1, 2), np.float32)}
                await s.occupy()
                tasks = [await s.submit(1)]
                tasks.append(asyncio.create_task(other_batcher.submit(one, PATIENCE)))
                await asyncio.sleep(0)
                # Nothing was handed over, so what comes later still finds room in the batch that waits.
                tasks += [await s.submit(2), asyncio.create_task(other_batcher.submit(one, PATIENCE))]
                await asyncio.sleep(0)
                assert (s.slots.free, s.slots.idle_workers) == (0, 0)
                s.graph.release()
                await asyncio.gather(*tasks)
                assert s.graph.batches == [[900], [1, 2]]
                assert ran == ["other"]
                assert (s.slots.free, s.slots.idle_workers) == (1, 1)
                await other_batcher.close()

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
                other_batcher = s.another("encoder", run("small"))
                large = await s.submit(*range(40))  # ten batches of four
                await other_batcher.submit({"x": np.zeros((1, 2), np.float32)}, PATIENCE)
                assert len(order) <= 3  # one ran, one may have been next
                await large

    play(story())


def test_a_batcher_that_closes_waits_for_requests_that_found_no_slot():
    async def story():
        with ThreadPoolExecutor(1) as pool:
            async with scene(pool, padding=False) as s:
                other_batcher = s.another("encoder", lambda inputs: {"y": inputs["x"]})
                await s.occupy()
                requested = asyncio.create_task(other_batcher.submit({"x": np.zeros((1, 2), np.float32)}, PATIENCE))
                await asyncio.sleep(0)
                closing = asyncio.create_task(other_batcher.close())
                await asyncio.sleep(0.01)
                assert not closing.done()
                s.graph.release()
                await closing
                assert requested.done()
                assert (await requested).outputs["y"].shape == (1, 2)

    play(story())


def test_the_backlog_of_other_batchers_in_the_same_slots_counts_in_estimates():
    async def story():
        with ThreadPoolExecutor(1) as pool:
            async with scene(pool, padding=False) as s:
                other_batcher = s.another("encoder", lambda inputs: {"y": inputs["x"]})
                assert s.batcher.most_images == 16  # the other may hold all slots
                await s.occupy()
                alone = s.batcher.seconds_for(4)
                requested = asyncio.create_task(other_batcher.submit({"x": np.zeros((6, 2), np.float32)}, PATIENCE))
                await asyncio.sleep(0)
                assert s.batcher.seconds_for(4) == pytest.approx(alone + other_batcher.seconds_for(6))
                assert other_batcher.seconds_for(6) == pytest.approx(other_batcher.seconds_for(12) / 2)
                s.graph.release()
                await requested

    play(story())


def test_a_batcher_that_dies_releases_its_slot():
    def dies(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise BrokenExecutor

    async def story():
        async with scene() as s:
            other_batcher = s.another("encoder", dies)
            with pytest.raises(BatcherClosedError):
                await other_batcher.submit({"x": np.zeros((1, 2), np.float32)}, PATIENCE)
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
