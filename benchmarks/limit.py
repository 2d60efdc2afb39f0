"""What this machine can do at most: decode, graphs at the best batch and encode in one process, without HTTP.

Every core has a thread that does a whole batch by itself, so nothing is handed over and nobody waits. A service that
shares the work between requests can come near to this. Threads of one process share its interpreter, which photographs
need most, so several processes can go beyond it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from itertools import count, cycle, islice
from pathlib import Path

from benchmarks.peers.faces import Faces

BATCHES = (1, 4, 16, 64)
_CHANGE = {"Smiling": 1.0}


def images_per_second(work: Callable[[], int], seconds: float, threads: int | None = None) -> float:
    """Call `work`, which returns how many images it made, from one thread for each core until the time is up."""
    counts = [0] * (threads or os.cpu_count() or 1)
    started = time.perf_counter()

    def repeat(thread: int) -> None:
        while time.perf_counter() - started < seconds:
            counts[thread] += work()

    running = [threading.Thread(target=repeat, args=(thread,)) for thread in range(len(counts))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def limits(bundle_directory: Path, pictures: list[bytes], photographs: list[bytes], seconds: float) -> dict[str, float]:
    """Images a second by workload, at the best batch of BATCHES.

    `pictures` are aligned faces, `photographs` are to be searched for one; without any, they are left out.
    """
    faces, seeds = Faces(bundle_directory, threads=1), count()
    framed, whole = cycle(pictures), cycle(photographs)

    def work(name: str, batch: int) -> Callable[[], int]:
        calls: dict[str, Callable[[], list[bytes]]] = {
            "generate": lambda: faces.generate([({}, next(seeds)) for _ in range(batch)]),
            "edit": lambda: faces.edit([(next(framed), _CHANGE) for _ in range(batch)]),
            "photograph": lambda: faces.photograph([(data, _CHANGE) for data in islice(whole, batch)]),
        }
        return lambda: len(calls[name]())

    names = ["generate", "edit", *(["photograph"] if photographs else [])]
    return {name: max(images_per_second(work(name, batch), seconds) for batch in BATCHES) for name in names}
