"""The queue's limits: capacity, deadlines, cancellation, closing, and what is measured."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import BatcherClosedError, DeadlineError, QueueFullError, RequestTooLargeError
from tests.service.inference.scenes import is_for, play, scene


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


def test_a_request_larger_than_the_queue_is_refused_as_too_large():
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


def test_the_time_in_the_queue_is_measured():
    async def story():
        async with scene() as s:
            running = await s.occupy()
            waiting = await s.submit(1)
            s.graph.release()
            assert (await waiting).queue_seconds > (await running).queue_seconds >= 0

    play(story())
