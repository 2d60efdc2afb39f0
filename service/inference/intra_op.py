"""How many threads work on one run: several where so many cores are idle, else one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service import system
from service.inference.out_of_memory import Arrays

Run = Callable[[Arrays], Arrays]


class BusyThreads:
    """Counts threads that compute, and so share the `cores`: runs of graphs, and work on pictures.

    Safe to use from many threads.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def enter(self, wanted: int = 1) -> Iterator[int]:
        """Some work, which is told with how many threads: as many as are `wanted` if the cores are idle, else one."""
        with self._lock:
            granted = wanted if self._count + wanted <= self._cores else 1
            self._count += granted
        try:
            yield granted
        finally:
            with self._lock:
                self._count -= granted


# Of this process: its models and its pictures share the same cores.
BUSY = BusyThreads(system.available_cores())


class IntraOpParallelism:
    """A graph in two sessions: `single` has one thread, `parallel` has `threads`, for runs that find idle cores.

    On two cores, two runs of one thread each have a third more throughput than one after the other with two threads
    each, and a run that has the cores to itself ends sooner with both. Beside a thread that decodes a picture it would
    not: the threads of one run wait for each other in a busy loop. Both sessions give the same values.
    """

    def __init__(self, single: Run, parallel: Run, threads: int, busy: BusyThreads = BUSY) -> None:
        self._single, self._parallel, self._threads, self._busy = single, parallel, threads, busy

    def __call__(self, inputs: Arrays) -> Arrays:
        with self._busy.enter(self._threads) as granted:
            return (self._parallel if granted > 1 else self._single)(inputs)
