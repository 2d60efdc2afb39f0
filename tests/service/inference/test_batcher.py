"""How requests share batches: their sizes, padding and numbers, and whose turn it is."""

from __future__ import annotations

import asyncio
from collections import Counter

import numpy as np
import pytest

from service.inference.batcher import buckets
from tests.service.fakes import PATIENCE
from tests.service.inference.scenes import is_for, play, scene


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


def test_on_start_is_called_with_the_first_batch_when_it_starts():
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
