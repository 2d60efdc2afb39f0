"""Where a run's training pictures come from, in which order, and one step ahead of their use."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from training import distributed
from training.data.dataset import FaceIndex, Faces


class Source(Protocol):
    """Labelled training pictures with a margin around them, in rows 0 to N - 1."""

    attributes: list[str]

    def __len__(self) -> int: ...

    def frequencies(self) -> np.ndarray:
        """Of each attribute the share of pictures that have it, f32 [K]."""

    def digest(self) -> str:
        """sha256 of what there is to learn from: other pictures or labels have another."""

    def order(self, seed: int, epoch: int, start: int, stop: int) -> np.ndarray:
        """The rows int64 [stop - start] that come at these places of an epoch; all N places show every row once.

        It depends on nothing else, so that any number of processes agree on it, and a resumed one knows it at once.
        """

    def read(self, rows: np.ndarray) -> Faces:
        """These rows' pictures uint8 [n, S + 2 margin, S + 2 margin, 3] and labels int8 [n, K]; thread-safe."""


class Permuted:
    """A source whose rows all lie in memory: each epoch is a permutation of its own."""

    _order: tuple[tuple[int, int], np.ndarray] | None = None

    def order(self, seed: int, epoch: int, start: int, stop: int) -> np.ndarray:
        """The rows int64 [stop - start] at these places of an epoch (Source.order)."""
        if self._order is None or self._order[0] != (seed, epoch):
            self._order = (seed, epoch), np.random.default_rng([seed, epoch]).permutation(len(self))
        return self._order[1][start:stop]


class CachedFaces(Permuted):
    """Pictures that `dataset.load_pixels` decoded and framed once, uint8 [M, H, W, 3], with their index.

    Its rows are each picture once, or as often as `times` int [M] says.
    """

    def __init__(self, index: FaceIndex, pixels: np.ndarray, times: np.ndarray | int = 1) -> None:
        self.index, self.pixels, self.attributes = index, pixels, index.attributes
        self.pictures = np.repeat(np.arange(len(index)), times)  # int64 [N], the picture of each row

    def __len__(self) -> int:
        return len(self.pictures)

    def frequencies(self) -> np.ndarray:
        return (self.index.labels[self.pictures] > 0).mean(0).astype(np.float32)

    def digest(self) -> str:
        return self.index.digest()

    def read(self, rows: np.ndarray) -> Faces:
        pictures = self.pictures[rows]
        return Faces(self.pixels[pictures], self.index.labels[pictures])


class BatchLoader:
    """This process's part of each step's batch. While one step computes, a thread reads the next one's pictures."""

    def __init__(self, source: Source, seed: int, batch_size: int) -> None:
        self.source, self.seed, self.batch_size = source, seed, batch_size
        self.steps_per_epoch = len(source) // batch_size  # what is left over is left out, other pictures every time
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._prefetched: tuple[int, Future[Faces]] | None = None

    @property
    def part(self) -> slice:
        """The places of the batch that are this process's."""
        share = self.batch_size // distributed.world()
        return slice(distributed.rank() * share, (distributed.rank() + 1) * share)

    def take(self, step: int) -> Faces:
        """The part for step number `step`. Raises DatasetError for what cannot be read."""
        step_read, read = self._prefetched or (None, None)
        if step_read != step:
            read = self._reader.submit(self._read, step)
        self._prefetched = step + 1, self._reader.submit(self._read, step + 1)
        return read.result()

    def _read(self, step: int) -> Faces:
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.batch_size
        return self.source.read(self.source.order(self.seed, epoch, start + self.part.start, start + self.part.stop))
