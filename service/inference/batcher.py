"""Dynamic batching: the images of many requests share batches of one graph. A free worker never waits for a batch.

All queue state belongs to the event loop's thread, so there are no locks. Only `run` is called in worker threads.
Queue sizes are in images. A large request is split into slices, which alternate with the slices of other requests.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from service.errors import (
    BatcherClosedError,
    BatcherError,
    DeadlineError,
    InferenceError,
    QueueFullError,
    RequestTooLargeError,
)
from service.inference.worker_slots import WorkerSlots
from service.telemetry.metrics import Metrics

Arrays = dict[str, np.ndarray]
log = logging.getLogger(__name__)

_DEADLINE_EXCEEDED = "the time for this request ran out before its result was ready"


def buckets(max_batch: int) -> list[int]:
    """Batch sizes that are run: powers of two, then `max_batch` itself."""
    sizes = [1]
    while sizes[-1] * 2 < max_batch:
        sizes.append(sizes[-1] * 2)
    return sizes if max_batch == 1 else [*sizes, max_batch]


class Batch(NamedTuple):
    """The number of a batch, counted from 1 in each batcher, and its images without padding."""

    number: int
    images: int


@dataclass(frozen=True)
class Computed:
    """A request's outputs, one row for each input row.

    `queue_seconds` end when its first batch starts, `infer_seconds` follow until its last batch has ended. `batches`
    lists the batches that had images of it, in order.
    """

    outputs: Arrays
    queue_seconds: float
    infer_seconds: float
    batches: list[Batch]


@dataclass(eq=False)
class _Job:
    """One request: `taken` of its `count` images have been put into batches, `done` of them are computed."""

    inputs: Arrays
    count: int
    future: asyncio.Future[Computed]
    enqueued: float
    on_start: Callable[[Batch], None]
    waiting_since: float  # when it last joined the queue's end, by time.perf_counter
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
    """The queue and the batches of one graph. Create and use it on one event loop.

    `run` maps input arrays to output arrays with as many rows; `executor` calls it. A batch has at most `max_batch`
    rows and runs in one of the worker `slots`. At most `capacity` images wait.

    Only the batch sizes of `buckets` are run. With `padding`, a batch takes all waiting images and is padded to the
    next larger bucket: for devices on which a larger batch takes hardly longer. Without padding, it shrinks to the next
    smaller bucket and leaves the rest to other idle workers: for devices on which time grows with the batch size.
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
        slots: WorkerSlots,
        padding: bool = True,
    ) -> None:
        self.graph, self._run, self._executor, self._metrics = graph, run, executor, metrics
        self._buckets, self._capacity = buckets(max_batch), capacity
        self._slots, self._padding = slots, padding
        slots.register(self)
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self.reserved = 0  # images of requests that are on their way here or have come
        self._running: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._seconds_per_image = 0.002  # a guess until the first batch is measured
        self._closed = False
        self.failure: BaseException | None = None
        # The gauges sum over all models.
        metrics.queue_capacity.labels(graph).inc(capacity)
        metrics.queue_images.labels(graph).inc(0)

    async def submit(
        self, inputs: Arrays, timeout: float, on_start: Callable[[Batch], None] = lambda _: None
    ) -> Computed:
        """Compute every row of `inputs` (arrays of equal length) within `timeout` seconds.

        `on_start` is called with the first batch that has images of this request. Raises BatcherErrors
        (service.errors). If the caller is cancelled, images that are not in a batch yet leave the queue.
        """
        if timeout <= 0:
            raise DeadlineError(_DEADLINE_EXCEEDED)
        count = len(next(iter(inputs.values())))
        self._admit(count)
        loop = asyncio.get_running_loop()
        now = time.perf_counter()
        job = _Job(inputs, count, loop.create_future(), now, on_start, waiting_since=now)
        self._jobs.append(job)
        self._change_waiting(count)
        self._slots.dispatch()
        deadline = loop.call_later(timeout, self._fail, job, DeadlineError(_DEADLINE_EXCEEDED))
        try:
            return await job.future
        finally:
            deadline.cancel()
            self._withdraw(job)

    @contextmanager
    def reserve(self, images: int) -> Iterator[None]:
        """Keep room for a request that will submit so many images, or has: until it ends, they count as taken.

        Raises QueueFullError where there is no room. A request that is refused only when it submits was decoded and
        encoded for nothing.
        """
        if (seconds := self.refusal(images)) is not None:
            self._metrics.rejected.labels("queue_full").inc()
            raise QueueFullError(seconds)
        self.reserved += images
        try:
            yield
        finally:
            self.reserved -= images

    def refusal(self, images: int = 1) -> float | None:
        """Seconds until there should be room for a request of so many images; None where there is room now.

        A request that finds nothing reserved is not refused here: if it is too large, `submit` says so.
        """
        if self.reserved and self.reserved + images > self.most_images:
            return self.seconds_for(self.reserved)
        return self.seconds_for(self._waiting) if self._waiting >= self._capacity else None

    def seconds_for(self, images: int) -> float:
        """Estimated time for so many images and the backlog of other batchers in the same slots, on all workers.

        It uses a moving average of measured batches.
        """
        work = images * self._seconds_per_image
        return (work + self._slots.backlog_seconds(excluding=self)) / self._slots.workers

    @property
    def most_images(self) -> int:
        """Images that fit for certain, in the queue and in batches. Of shared slots, other batchers may hold all."""
        return self._capacity + (0 if self._slots.shared else self._slots.count * self._buckets[-1])

    @property
    def backlog_seconds(self) -> float:
        """Estimated time that one worker needs for all waiting images."""
        return self._waiting * self._seconds_per_image

    @property
    def waiting_since(self) -> float | None:
        """When the request whose turn is next joined the queue, by time.perf_counter; None if nothing waits."""
        return self._jobs[0].waiting_since if self._jobs else None

    def start_batch(self) -> None:
        """Submit the next batch to the executor and acquire a slot for it. WorkerSlots.dispatch calls this."""
        slices = self._take()
        work = self._execute(self._start(slices), slices)
        # A batch belongs to several requests, so its log records must not carry the id of the request that came last.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._slots.acquire()
        self._running.add(task)
        task.add_done_callback(self._finished)

    async def close(self) -> None:
        """Refuse new requests and wait for those that were admitted."""
        first, self._closed = not self._closed, True
        if first:
            self._metrics.queue_capacity.labels(self.graph).dec(self._capacity)
        # While other batchers hold all slots, requests can wait although no batch of this one runs.
        while pending := self._running | {job.future for job in self._jobs}:
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if first:
            self._slots.unregister(self)

    def _admit(self, count: int) -> None:
        if self._closed or self.failure is not None:
            raise BatcherClosedError(f"the {self.graph} batcher is closed")
        if count > self._capacity:
            raise RequestTooLargeError(f"{count} images in one request; the queue holds {self._capacity}")
        if self._waiting + count > self._capacity:
            self._metrics.rejected.labels("queue_full").inc()
            raise QueueFullError(self.seconds_for(self._waiting))

    def _change_waiting(self, change: int) -> None:
        self._waiting += change
        self._metrics.queue_images.labels(self.graph).inc(change)

    def _withdraw(self, job: _Job) -> None:
        if job.waiting:
            self._jobs.remove(job)
            self._change_waiting(-job.waiting)
            job.taken = job.count

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._slots.release()
        if not task.cancelled() and task.exception() is not None:
            self._die(task.exception())
        self._slots.dispatch()

    def _take(self) -> list[_Slice]:
        """The slices of the next batch: every request gets an equal share of it, remaining rows are shared again."""
        room, slices = self._next_batch_size(), []
        while room and self._jobs:
            share = max(1, room // len(self._jobs))
            for _ in range(min(room, len(self._jobs))):
                job = self._jobs.popleft()
                taken = min(share, job.waiting, room)
                slices.append(_Slice(job, job.taken, job.taken + taken))
                job.taken += taken
                room -= taken
                self._change_waiting(-taken)
                if job.waiting:
                    job.waiting_since = time.perf_counter()
                    self._jobs.append(job)
        return slices

    def _start(self, slices: list[_Slice]) -> Batch:
        """Number a batch and record it in its requests."""
        batch = Batch(next(self._numbers), sum(part.stop - part.start for part in slices))
        for job in dict.fromkeys(part.job for part in slices):
            job.batches.append(batch)
            if len(job.batches) == 1:
                job.started = time.perf_counter()
                self._metrics.queue_wait.labels(self.graph).observe(job.started - job.enqueued)
                job.on_start(batch)
        return batch

    def _next_batch_size(self) -> int:
        if self._padding:
            return self._buckets[-1]
        share = math.ceil(self._waiting / (self._slots.idle_workers or self._slots.free))
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
            # The executor cannot run anything any more: fail these requests now, and the batcher with them.
            for part in slices:
                self._fail(part.job, BatcherClosedError(f"the {self.graph} worker died"))
            raise

    async def _isolate(self, batch: Batch, slices: list[_Slice], exc: Exception) -> None:
        """Run the requests of a failed batch one by one, so that only those that cause the error fail."""
        self._metrics.inference_errors.labels(type(exc).__name__).inc()
        log.error("batch %d of %d slices failed in the %s graph", batch.number, len(slices), self.graph, exc_info=exc)
        if len(slices) == 1:
            failure = InferenceError(f"the {self.graph} graph failed in batch {batch.number}")
            failure.__cause__ = exc
            self._fail(slices[0].job, failure)
            return
        for single in slices:
            if not single.job.future.done():  # the client may have disconnected meanwhile
                await self._execute(self._start([single]), [single])

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
        """The executor is broken: fail all waiting requests. The liveness probe reports `failure`."""
        self.failure = exc
        log.critical("the %s batcher died", self.graph, exc_info=exc)
        for job in list(self._jobs):
            self._fail(job, BatcherClosedError(f"the {self.graph} worker died"))


def _padded_run(run: Callable[[Arrays], Arrays], slices: list[_Slice], bucket: int) -> tuple[Arrays, float]:
    """In a worker thread: concatenate, pad by repeating the last row, run, and remove the padding.

    Returns the outputs and the duration in seconds. Raises ValueError if an output has another number of rows.
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
    for name, array in outputs.items():
        if len(array) != bucket:
            raise ValueError(f"output {name} has {len(array)} rows for {bucket} inputs")
    return {name: array[:size] for name, array in outputs.items()}, time.perf_counter() - started
