"""How many threads work on one run: all of them on a run that has the cores to itself, one on each of several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.inference.out_of_memory import Arrays

Run = Callable[[Arrays], Arrays]


class BusyThreads:
    """Counts threads that compute, and so share the cores: runs of graphs, and work on pictures. Safe to use from many
    threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """Some work, which is told whether it is the only one as it begins."""
        with self._lock:
            self._count += 1
            alone = self._count == 1
        try:
            yield alone
        finally:
            with self._lock:
                self._count -= 1


# Of this process: its models and its pictures share the same cores.
BUSY = BusyThreads()


class IntraOpParallelism:
    """A graph in two sessions: `single` has one thread, `parallel` has several for a run that is alone.

    Two runs of one thread each have a third more throughput than one after the other with two threads each, and a run
    that has the cores to itself ends sooner with all of them. Beside a thread that decodes a picture it would not: the
    threads of one run wait for each other in a busy loop. Both sessions give the same values.
    """

    def __init__(self, single: Run, parallel: Run, busy: BusyThreads = BUSY) -> None:
        self._single, self._parallel, self._busy = single, parallel, busy

    def __call__(self, inputs: Arrays) -> Arrays:
        with self._busy.enter() as alone:
            return (self._parallel if alone else self._single)(inputs)
