"""How many pixels may be decoded at once: this bounds the memory of pictures, however many threads there are."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock

# Pictures of so many pixels are not counted: they never wait for large ones, and as many as there are threads take
# little.
SMALL = 4_000_000


class NoRoomError(Exception):
    """A job has to wait until there is room for so many pixels."""

    def __init__(self, pixels: int) -> None:
        super().__init__(f"no room for {pixels} pixels")
        self.pixels = pixels


@dataclass
class _Waiting:
    pixels: int
    future: asyncio.Future[None]
    granted: bool = False


class Grant:
    """Pixels that were waited for. The first job that `take`s them gives them back itself."""

    def __init__(self, budget: PixelBudget, pixels: int) -> None:
        self._budget, self._pixels, self._lock = budget, pixels, Lock()

    def take(self) -> int:
        """The pixels, once; 0 afterwards."""
        with self._lock:
            pixels, self._pixels = self._pixels, 0
        return pixels

    def close(self) -> None:
        """Give back what no job has taken."""
        self._budget.give_back(self.take())


class PixelBudget:
    """`most` pixels for the pictures of all jobs in work. Safe to use from many threads.

    A job takes its picture's pixels once it knows how many they are. Where others have them, it ends with NoRoomError,
    leaves its thread to other jobs, and is run again when it is its turn: CodecThreads does that. A picture of more
    pixels takes all of them.
    """

    def __init__(self, most: int) -> None:
        self._most = self._free = most
        self._waiting: deque[_Waiting] = deque()
        self._lock = Lock()
        self._grant: ContextVar[Grant | None] = ContextVar("grant", default=None)

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Hold so many pixels in a job, which does this once. Raises NoRoomError."""
        pixels = 0 if pixels <= SMALL else min(pixels, self._most)
        grant = self._grant.get()
        granted = grant.take() if grant else 0
        if granted < pixels:
            self.give_back(granted)
            granted = self._take(pixels)
        try:
            yield
        finally:
            self.give_back(granted)

    async def wait(self, pixels: int) -> Grant:
        """Wait for so many pixels; whoever came first gets them first."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(pixels, loop.create_future())
        with self._lock:
            self._waiting.append(waiting)
            self._serve()
        try:
            await waiting.future
        except asyncio.CancelledError:
            with self._lock:
                if waiting.granted:
                    self._free += pixels
                else:
                    self._waiting.remove(waiting)
                self._serve()
            raise
        return Grant(self, pixels)

    @contextmanager
    def granted(self, grant: Grant) -> Iterator[None]:
        """Let the jobs that are begun meanwhile have what was waited for."""
        token = self._grant.set(grant)
        try:
            yield
        finally:
            self._grant.reset(token)
            grant.close()

    def give_back(self, pixels: int) -> None:
        """Let others have them."""
        with self._lock:
            self._free += pixels
            self._serve()

    def _take(self, pixels: int) -> int:
        with self._lock:
            if pixels and (self._waiting or pixels > self._free):
                raise NoRoomError(pixels)
            self._free -= pixels
        return pixels

    def _serve(self) -> None:
        """Grant what there is to those who wait, in their order."""
        while self._waiting and self._waiting[0].pixels <= self._free:
            waiting = self._waiting.popleft()
            waiting.granted = True
            self._free -= waiting.pixels
            future = waiting.future
            future.get_loop().call_soon_threadsafe(lambda future=future: future.done() or future.set_result(None))
