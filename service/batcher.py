"""Dynamic batching: many requests' images through one graph, without ever waiting while the graph is free.

All queue state belongs to the event loop's thread, so there are no locks; only `run` leaves it, for a worker thread.
Counting is in images. A large request is cut into slices that take turns with everybody else's.

    BatcherError
    +-- QueueFullError        no room now; `retry_after` says when there should be
    +-- RequestTooLargeError  more images than the whole queue holds
    +-- DeadlineError         the time was up before every image was computed
    +-- InferenceError        the graph failed on this request's images
    +-- BatcherClosedError    closing, or its worker died
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor
from contextvars import Context
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from service.metrics import Metrics
from service.places import Places

Arrays = dict[str, np.ndarray]
log = logging.getLogger(__name__)

_TIME_IS_UP = "the time for this request ran out before its result was ready"


class BatcherError(Exception):
    """Why a request got no result."""


class QueueFullError(BatcherError):
    """No room now."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the queue is full; retry in {retry_after:.1f} s")
        self.retry_after = retry_after


class RequestTooLargeError(BatcherError):
    """More images than the whole queue holds."""


class DeadlineError(BatcherError):
    """The time was up."""


class InferenceError(BatcherError):
    """The graph failed on this request's images."""


class BatcherClosedError(BatcherError):
    """Closing, or its worker died."""


def buckets(max_batch: int) -> list[int]:
    """Batch sizes that are ever run: powers of two, then `max_batch` itself."""
    sizes = [1]
    while sizes[-1] * 2 < max_batch:
        sizes.append(sizes[-1] * 2)
    return sizes if max_batch == 1 else [*sizes, max_batch]


class Batch(NamedTuple):
    """One batch: its number, counted from 1 by each batcher, and its images, without padding."""

    number: int
    images: int


@dataclass(frozen=True)
class Computed:
    """A request's outputs, one row for each input row, and its seconds in the queue and from there to the end.

    `batches` carried its images, in that order.
    """

    outputs: Arrays
    queue_seconds: float
    infer_seconds: float
    batches: list[Batch]


@dataclass(eq=False)
class _Job:
    """One request: `taken` of its `count` images are in batches, `done` of them computed."""

    inputs: Arrays
    count: int
    future: asyncio.Future[Computed]
    enqueued: float
    on_start: Callable[[Batch], None]
    turn: float  # since when it waits for its next batch
    batches: list[Batch] = field(default_factory=list)
    started: float = 0.0
    taken: int = 0
    done: int = 0
    outputs: Arrays = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        return self.count - self.taken


@dataclass(frozen=True)
class _Slice:
    job: _Job
    start: int
    stop: int

    def inputs(self) -> Arrays:
        return {name: array[self.start : self.stop] for name, array in self.job.inputs.items()}


class Batcher:
    """Batches for one graph. `run` maps input arrays to output arrays, row by row, and is called from `executor`.

    At most `max_batch` rows are run together, in one of the `places`, and at most `capacity` images wait. Create and
    use it on one event loop.

    Only the sizes of `buckets` are run. With `padding`, a batch takes all that waits and is padded to the next one:
    right where a larger batch hardly takes longer. Without, it shrinks to the next smaller one and leaves some to the
    other idle workers: right where a batch takes as long as its images one by one.
    """

    def __init__(
        self,
        graph: str,
        run: Callable[[Arrays], Arrays],
        executor: Executor,
        metrics: Metrics,
        *,
        max_batch: int,
        capacity: int,
        places: Places,
        padding: bool = True,
    ) -> None:
        self.graph, self._run, self._executor, self._metrics = graph, run, executor, metrics
        self._buckets, self._capacity = buckets(max_batch), capacity
        self._places, self._padding = places, padding
        places.share(self)
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._running: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._seconds_per_image = 0.002  # a guess until the first batch has been measured
        self._closed = False
        self.failure: BaseException | None = None
        # Several models share these gauges, so each adds its own.
        metrics.queue_capacity.labels(graph).inc(capacity)
        metrics.queue_images.labels(graph).inc(0)

    async def submit(
        self, inputs: Arrays, timeout: float, on_start: Callable[[Batch], None] = lambda _: None
    ) -> Computed:
        """Compute every row of `inputs` (arrays of equal length) within `timeout` seconds.

        `on_start` is called with the batch that the first of them goes into. Raises the BatcherErrors above. Cancelling
        the caller withdraws what has not reached a batch.
        """
        if timeout <= 0:
            raise DeadlineError(_TIME_IS_UP)
        count = len(next(iter(inputs.values())))
        self._admit(count)
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        job = _Job(inputs, count, loop.create_future(), now, on_start, turn=now)
        self._jobs.append(job)
        self._count(count)
        self._places.fill()
        deadline = loop.call_later(timeout, self._fail, job, DeadlineError(_TIME_IS_UP))
        try:
            return await job.future
        finally:
            deadline.cancel()
            self._withdraw(job)

    def refusal(self) -> float | None:
        """Seconds until there should be room, where not one more image would be admitted now; else None."""
        return self.seconds_for(self._waiting) if self._waiting >= self._capacity else None

    def seconds_for(self, images: int) -> float:
        """How long that many images should take, by the batches of late, with what waits elsewhere for these places."""
        work = images * self._seconds_per_image
        return (work + self._places.waiting_seconds(beside=self)) / self._places.workers

    @property
    def most_images(self) -> int:
        """How many images it can hold for certain, waiting and in batches: others may have all of the shared places."""
        return self._capacity + (0 if self._places.shared else self._places.count * self._buckets[-1])

    @property
    def waiting_seconds(self) -> float:
        """How long what waits should take one worker."""
        return self._waiting * self._seconds_per_image

    @property
    def oldest(self) -> float | None:
        """Since when the request has waited for its turn that is next, by time.perf_counter; None where none waits."""
        return self._jobs[0].turn if self._jobs else None

    def begin(self) -> None:
        """Hand the next batch over, which takes one of the places; for Places to call."""
        slices = self._take()
        work = self._execute(self._number(slices), slices)
        # A batch belongs to nobody: what it logs must not carry the id of whoever happened to come last.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._places.free -= 1
        self._running.add(task)
        task.add_done_callback(self._finished)

    async def close(self) -> None:
        """Refuse new requests and wait for those admitted."""
        first, self._closed = not self._closed, True
        if first:
            self._metrics.queue_capacity.labels(self.graph).dec(self._capacity)
        # Where others have the places, there are requests and no batch of ours.
        while waits := self._running | {job.future for job in self._jobs}:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if first:
            self._places.leave(self)

    def _admit(self, count: int) -> None:
        if self._closed or self.failure is not None:
            raise BatcherClosedError(f"the {self.graph} batcher is closed")
        if count > self._capacity:
            raise RequestTooLargeError(f"{count} images in one request; the queue holds {self._capacity}")
        if self._waiting + count > self._capacity:
            self._metrics.rejected.labels("queue_full").inc()
            raise QueueFullError(self.seconds_for(self._waiting))

    def _count(self, change: int) -> None:
        self._waiting += change
        self._metrics.queue_images.labels(self.graph).inc(change)

    def _withdraw(self, job: _Job) -> None:
        if job.waiting:
            self._jobs.remove(job)
            self._count(-job.waiting)
            job.taken = job.count

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._places.free += 1
        if not task.cancelled() and task.exception() is not None:
            self._die(task.exception())
        self._places.fill()

    def _take(self) -> list[_Slice]:
        """The next batch: everybody waiting gets an equal share, then what is left over goes round again."""
        room, slices = self._room(), []
        while room and self._jobs:
            share = max(1, room // len(self._jobs))
            for _ in range(min(room, len(self._jobs))):
                job = self._jobs.popleft()
                taken = min(share, job.waiting, room)
                slices.append(_Slice(job, job.taken, job.taken + taken))
                job.taken += taken
                room -= taken
                self._count(-taken)
                if job.waiting:
                    job.turn = time.perf_counter()
                    self._jobs.append(job)
        return slices

    def _number(self, slices: list[_Slice]) -> Batch:
        """These make the next batch: tell everyone in it."""
        batch = Batch(next(self._numbers), sum(part.stop - part.start for part in slices))
        for job in dict.fromkeys(part.job for part in slices):
            job.batches.append(batch)
            if len(job.batches) == 1:
                job.started = time.perf_counter()
                self._metrics.queue_wait.labels(self.graph).observe(job.started - job.enqueued)
                job.on_start(batch)
        return batch

    def _room(self) -> int:
        """The size of the next batch."""
        if self._padding:
            return self._buckets[-1]
        share = math.ceil(self._waiting / (self._places.idle or self._places.free))
        return max(bucket for bucket in self._buckets if bucket <= share)

    async def _execute(self, batch: Batch, slices: list[_Slice]) -> None:
        try:
            try:
                outputs = await self._call(slices)
            except BrokenExecutor:
                raise
            except Exception as exc:
                await self._isolate(batch, slices, exc)
            else:
                self._deliver(slices, outputs)
        except BaseException:
            # No thread is left to run anything: these requests fail now, and the batcher with them.
            for part in slices:
                self._fail(part.job, BatcherClosedError(f"the {self.graph} worker died"))
            raise

    async def _isolate(self, batch: Batch, slices: list[_Slice], exc: Exception) -> None:
        """A batch failed: run its requests one by one, so that only the guilty ones fail."""
        self._metrics.inference_errors.labels(type(exc).__name__).inc()
        log.error("batch %d of %d slices failed in the %s graph", batch.number, len(slices), self.graph, exc_info=exc)
        if len(slices) == 1:
            failure = InferenceError(f"the {self.graph} graph failed in batch {batch.number}")
            failure.__cause__ = exc
            self._fail(slices[0].job, failure)
            return
        for single in slices:
            if not single.job.future.done():  # its client may have left meanwhile
                await self._execute(self._number([single]), [single])

    async def _call(self, slices: list[_Slice]) -> Arrays:
        size = sum(s.stop - s.start for s in slices)
        bucket = next(b for b in self._buckets if b >= size)
        loop = asyncio.get_running_loop()
        outputs, seconds = await loop.run_in_executor(self._executor, _padded_run, self._run, slices, bucket)
        self._seconds_per_image += 0.1 * (seconds / size - self._seconds_per_image)
        self._metrics.observe_batch(self.graph, size, bucket, seconds)
        return outputs

    def _deliver(self, slices: list[_Slice], outputs: Arrays) -> None:
        offset = 0
        for part in slices:
            job, size = part.job, part.stop - part.start
            for name, array in outputs.items():
                whole = job.outputs.setdefault(name, np.empty((job.count, *array.shape[1:]), array.dtype))
                whole[part.start : part.stop] = array[offset : offset + size]
            offset += size
            job.done += size
            if job.done == job.count and not job.future.done():
                seconds = time.perf_counter() - job.started
                job.future.set_result(Computed(job.outputs, job.started - job.enqueued, seconds, job.batches))

    def _fail(self, job: _Job, exc: BatcherError) -> None:
        self._withdraw(job)
        if not job.future.done():
            job.future.set_exception(exc)

    def _die(self, exc: BaseException) -> None:
        """The worker cannot go on. Nobody is left waiting; liveness reports `failure`."""
        self.failure = exc
        log.critical("the %s batcher died", self.graph, exc_info=exc)
        for job in list(self._jobs):
            self._fail(job, BatcherClosedError(f"the {self.graph} worker died"))


def _padded_run(run: Callable[[Arrays], Arrays], slices: list[_Slice], bucket: int) -> tuple[Arrays, float]:
    """In the worker thread: concatenate, pad by repeating the last row, run, and cut the padding off.

    Returns the outputs and the seconds that it took.
    """
    started = time.perf_counter()
    parts = [part.inputs() for part in slices]
    inputs = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    size = len(next(iter(inputs.values())))
    if bucket > size:
        inputs = {
            name: np.concatenate([array, np.repeat(array[-1:], bucket - size, axis=0)])
            for name, array in inputs.items()
        }
    outputs = run(inputs)
    if lost := [name for name, array in outputs.items() if len(array) != bucket]:
        raise ValueError(f"output {lost[0]} has {len(outputs[lost[0]])} rows for {bucket} inputs")
    return {name: array[:size] for name, array in outputs.items()}, time.perf_counter() - started
