"""Worker slots: how many batches may be with the workers at once, for one batcher or for several that share them."""

from __future__ import annotations

from typing import Protocol


class SlotUser(Protocol):
    """A queue of requests that runs batches, such as service.inference.batcher.Batcher."""

    @property
    def waiting_since(self) -> float | None: ...  # of the request whose turn is next; None if nothing waits

    @property
    def backlog_seconds(self) -> float: ...  # estimated time that one worker needs for all waiting images

    def start_batch(self) -> None: ...  # acquires one slot for its next batch


class WorkerSlots:
    """Slots of one executor: one for each of `workers`, and `prefetch` more.

    A prefetched batch is submitted before a worker is free, so that the worker does not wait for a busy event loop.
    More prefetching would not help, and a batch can grow only until it is submitted.
    """

    def __init__(self, workers: int, prefetch: int = 0) -> None:
        self.workers, self.count = workers, workers + prefetch
        self._acquired = 0
        self._batchers: list[SlotUser] = []

    @property
    def free(self) -> int:
        """Slots without a batch."""
        return self.count - self._acquired

    @property
    def idle_workers(self) -> int:
        """Workers without a batch."""
        return max(0, self.workers - self._acquired)

    @property
    def shared(self) -> bool:
        """Whether several batchers use these slots."""
        return len(self._batchers) > 1

    def register(self, batcher: SlotUser) -> None:
        """Let `dispatch` start batches of this batcher."""
        self._batchers.append(batcher)

    def unregister(self, batcher: SlotUser) -> None:
        """Drop the reference to a closed batcher. A reference cycle would keep its model in memory for long."""
        self._batchers.remove(batcher)

    def acquire(self) -> None:
        """Take a free slot for a batch."""
        self._acquired += 1

    def release(self) -> None:
        """Return the slot of a batch that has ended."""
        self._acquired -= 1

    def dispatch(self) -> None:
        """Start batches while slots are free. The batcher whose next request has waited longest goes first."""
        while self.free and (waiting := [batcher for batcher in self._batchers if batcher.waiting_since is not None]):
            min(waiting, key=lambda batcher: batcher.waiting_since).start_batch()

    def backlog_seconds(self, excluding: SlotUser) -> float:
        """Estimated time that one worker needs for the waiting images of all other batchers."""
        return sum(batcher.backlog_seconds for batcher in self._batchers if batcher is not excluding)
