"""Room for batches where they run, which batchers may share."""

from __future__ import annotations

from typing import Protocol


class Sharer(Protocol):
    """What has batches to run: a service.batcher.Batcher."""

    @property
    def oldest(self) -> float | None: ...  # since when the next of its requests waits; None where none does

    @property
    def waiting_seconds(self) -> float: ...  # how long what waits should take one worker

    def begin(self) -> None: ...  # hands its next batch over, which takes a place


class Places:
    """Where batches run: `workers` at once, in one executor, for one batcher or for several that share it.

    `ahead` more are handed over before a worker is free, so that it need not wait for an event loop that is busy just
    then. No more than that, for what has not been handed over can still grow.
    """

    def __init__(self, workers: int, ahead: int = 0) -> None:
        self.workers, self.count = workers, workers + ahead
        self.free = self.count
        self._batchers: list[Sharer] = []

    @property
    def idle(self) -> int:
        """Workers that have nothing to do."""
        return max(0, self.free - (self.count - self.workers))

    def share(self, batcher: Sharer) -> None:
        """Give places to this batcher too."""
        self._batchers.append(batcher)

    def leave(self, batcher: Sharer) -> None:
        """It needs none any more, and is let go of: with references both ways a model would stay in memory for long."""
        self._batchers.remove(batcher)

    @property
    def shared(self) -> bool:
        """Whether several batchers have them."""
        return len(self._batchers) > 1

    def waiting_seconds(self, beside: Sharer) -> float:
        """How long what waits in all other batchers should take one worker."""
        return sum(batcher.waiting_seconds for batcher in self._batchers if batcher is not beside)

    def fill(self) -> None:
        """Have batches begin while there is room, whoever has waited longest for its turn first."""
        while self.free and (waiting := [batcher for batcher in self._batchers if batcher.oldest is not None]):
            min(waiting, key=lambda batcher: batcher.oldest).begin()
