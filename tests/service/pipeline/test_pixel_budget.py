"""Pictures in work have so many pixels together, whoever is first is first, and small ones never wait."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from service.pipeline.codec_threads import CodecThreads
from service.pipeline.pixel_budget import SMALL, NoRoomError, PixelBudget
from service.telemetry.metrics import Metrics

MOST = 10 * SMALL
LARGE = 6 * SMALL
PATIENCE = 20


class Work:
    """Jobs that hold pixels until they are released, and how many were held at once."""

    def __init__(self, threads: int = 8, most: int = MOST) -> None:
        self.budget = PixelBudget(most)
        self.threads = CodecThreads(threads, 100, Metrics(CollectorRegistry()), self.budget)
        self.gates: dict[str, threading.Event] = {}
        self.begun: list[str] = []
        self._held, self.peak, self._lock = 0, 0, threading.Lock()

    def begin(self, name: str, pixels: int) -> asyncio.Task[str]:
        self.gates[name] = threading.Event()
        return asyncio.create_task(self.threads.run(self._job, name, pixels))

    def _job(self, name: str, pixels: int) -> str:
        with self.budget.taken(pixels):
            with self._lock:
                self.begun.append(name)
                self._held += pixels
                self.peak = max(self.peak, self._held)
            assert self.gates[name].wait(PATIENCE)
            with self._lock:
                self._held -= pixels
        return name

    async def until(self, *begun: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.begun != [*begun]:
                await asyncio.sleep(0.002)

    async def settled(self) -> None:
        """Whatever can begin has begun."""
        for _ in range(20):
            await asyncio.sleep(0.002)


def run(test: Callable[[Work], object], **options: int) -> None:
    async def within() -> None:
        work = Work(**options)
        try:
            await test(work)
        finally:
            for gate in work.gates.values():
                gate.set()
            work.threads.close()
        assert work.budget._free == work.budget._most
        assert not work.budget._waiting

    asyncio.run(within())


def test_what_fits_is_in_work_at_once_and_the_rest_waits_in_its_order():
    async def test(work: Work) -> None:
        jobs = [work.begin(name, LARGE if name != "b" else MOST) for name in "abcd"]
        await work.until("a")
        await work.settled()
        assert work.begun == ["a"]
        for name, following in (("a", "ab"), ("b", "abc"), ("c", "abcd"), ("d", "abcd")):
            work.gates[name].set()
            await work.until(*following)
        assert await asyncio.gather(*jobs) == [*"abcd"]
        assert work.peak <= MOST

    run(test)


def test_those_that_wait_hold_no_thread_and_small_pictures_pass_them():
    async def test(work: Work) -> None:
        large = [work.begin(name, MOST) for name in "abcd"]
        await work.until("a")
        small = work.begin("s", SMALL)
        await work.until("a", "s")
        work.gates["s"].set()
        assert await small == "s"
        for name in "abcd":
            work.gates[name].set()
        await asyncio.gather(*large)

    run(test, threads=2)


def test_a_picture_of_more_pixels_than_there_are_takes_all():
    async def test(work: Work) -> None:
        first, second = work.begin("a", 5 * MOST), work.begin("b", LARGE)
        await work.until("a")
        work.gates["a"].set()
        work.gates["b"].set()
        await asyncio.gather(first, second)
        assert work.begun == ["a", "b"]

    run(test)


@pytest.mark.parametrize("running", [False, True])
def test_of_a_caller_that_is_gone_nothing_stays_taken(running: bool):
    async def test(work: Work) -> None:
        first, second, third = (work.begin(name, MOST) for name in "abc")
        await work.until("a")
        await work.settled()
        if running:  # its job goes on, and holds its pixels until it ends
            first.cancel()
            await work.settled()
            assert work.begun == ["a"]
            work.gates["a"].set()
            await work.until("a", "b")
        second.cancel()
        await work.settled()
        work.gates["a"].set()
        work.gates["b"].set()
        work.gates["c"].set()
        assert await third == "c"
        await asyncio.gather(first, second, return_exceptions=True)

    run(test)


def test_a_caller_that_goes_just_when_it_is_its_turn_leaves_nothing_behind():
    async def test(work: Work) -> None:
        budget = work.budget
        with budget.taken(MOST):
            waiting = asyncio.create_task(budget.wait(LARGE))
            await asyncio.sleep(0)
        waiting.cancel()  # granted, and not told yet
        with pytest.raises(asyncio.CancelledError):
            await waiting
        grant = await budget.wait(LARGE)
        with budget.granted(grant), budget.taken(LARGE), pytest.raises(NoRoomError), budget.taken(LARGE):
            pass

    run(test)


def test_work_that_fails_gives_its_pixels_back():
    async def test(work: Work) -> None:
        def fails() -> None:
            with work.budget.taken(LARGE):
                raise ValueError("broken")

        for _ in range(3):
            with pytest.raises(ValueError, match="broken"):
                await work.threads.run(fails)

    run(test)


def test_many_of_all_sizes_are_done_and_never_too_much_at_once():
    async def test(work: Work) -> None:
        names = [f"{number}" for number in range(60)]
        jobs = [work.begin(name, (int(name) * 7 % 11 + 1) * SMALL) for name in names]
        for gate in work.gates.values():
            gate.set()
        assert sorted(await asyncio.gather(*jobs)) == sorted(names)
        assert work.peak <= MOST + 8 * SMALL  # small ones are not counted

    run(test, threads=4)
