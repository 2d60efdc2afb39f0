"""The threads that decode, paste and encode pictures beside the event loop, and how much work may wait for them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Self, TypeVar

from service.errors import QueueFullError
from service.imaging import codecs
from service.inference.intra_op import BUSY
from service.pipeline.pixel_budget import NoRoomError, PixelBudget
from service.settings import Settings
from service.telemetry.metrics import Metrics

Result = TypeVar("Result")


class CodecThreads:
    """`threads` threads, and at most `most` jobs that wait or run, of `pixels` together. Use it on one event loop.

    `max_image_pixels` are the most that one picture may have.
    """

    def __init__(
        self, threads: int, most: int, metrics: Metrics, pixels: PixelBudget, max_image_pixels: int = sys.maxsize
    ) -> None:
        self.pixels, self._max_image_pixels = pixels, max_image_pixels
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="codec")
        self._most, self._rejected = most, metrics.rejected.labels("codecs_full")
        self._jobs = 0

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> Self:
        """As the settings have them."""
        budget = PixelBudget(settings.decoded_pixels)
        return cls(settings.codec_threads, settings.queue_images, metrics, budget, settings.max_image_pixels)

    async def run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run picture work in a thread. Raises QueueFullError where too many jobs wait already.

        Work of a caller that is cancelled is dropped if it has not begun, and counts until it has ended. Work that
        finds no room for its pixels is run again when there is some.
        """
        try:
            return await self._run(work, *arguments)
        except NoRoomError as exc:
            with self.pixels.granted(await self.pixels.wait(exc.pixels)):
                return await self._run(work, *arguments)

    async def run_on(self, picture: bytes, work: Callable[..., Result], *arguments: Any) -> Result:
        """Run work that decodes a picture, once there is room for its pixels.

        Raises ImageErrors, QueueFullError, and what `work` raises.
        """

        def with_room() -> Result:
            width, height = codecs.size_of(picture, self._max_image_pixels)
            with self.pixels.taken(width * height):
                return work(*arguments)

        return await self.run(with_room)

    async def _run(self, work: Callable[..., Result], *arguments: Any) -> Result:
        if self._jobs >= self._most:
            self._rejected.inc()
            raise QueueFullError(1.0)
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        # In the request's context, so that what it logs there carries the request's id.
        job = self._executor.submit(copy_context().run, _counted, work, *arguments)
        self._jobs += 1
        # One message to the loop for each job: asyncio.wrap_future would send another, and each wakes it. The callback
        # must not hold the job, which holds the callback: the picture would stay until the garbage collector runs.
        job.add_done_callback(lambda ended: loop.call_soon_threadsafe(self._ended, ended, done))
        try:
            return await done
        finally:
            job.cancel()

    def close(self) -> None:
        """Finish what has begun, and end the threads."""
        self._executor.shutdown()

    def _ended(self, job: Future[Result], done: asyncio.Future[Result]) -> None:
        self._jobs -= 1
        if done.done():
            return  # its caller was cancelled
        if error := job.exception():
            done.set_exception(error)
        else:
            done.set_result(job.result())


def _counted(work: Callable[..., Result], *arguments: Any) -> Result:
    """Do the work, so that runs of graphs know that they share the cores with it."""
    with BUSY.enter():
        return work(*arguments)
