"""Requests that share a batch do not share errors, and a worker that dies leaves nobody waiting."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool

import numpy as np
import pytest

from service.errors import BatcherClosedError, BatcherError, DeadlineError, InferenceError
from tests.service.inference.scenes import is_for, play, scene


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


def test_when_the_worker_dies_while_a_failed_batch_is_isolated_nobody_is_left_waiting():
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
