"""How many threads a command computes with: as many as cores are free, unless somebody says so.

Threads that share a core with another program wait for each other in every layer: two threads on a machine whose two
cores are busy were four times slower than one. What is free is measured, not taken from the load average, which
remembers what has ended a minute ago.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

import torch

from service import system

_STAT = Path("/proc/stat")
_SECONDS = 0.3  # that are measured
_BUSY = 0.5  # a core that others leave less than this share of counts as taken


def choose(requested: int | None) -> int:
    """Set torch's threads, and say how many and why on stderr. OMP_NUM_THREADS counts as a request."""
    words = os.environ.get("OMP_NUM_THREADS", "")
    if requested is not None:
        count, why = requested, "--threads"
    elif words.isdecimal() and int(words):
        count, why = int(words), "OMP_NUM_THREADS"
    else:
        cores = system.available_cores()
        free = free_cores(_busy(), cores)
        count = max(1, free // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        why = f"{free} of {cores} cores are free; --threads sets another number"
    torch.set_num_threads(count)
    print(f"computing with {count} thread{'s' if count > 1 else ''} ({why})", file=sys.stderr)
    return count


def free_cores(busy: list[float] | None, cores: int) -> int:
    """How many of `cores` are free where `busy` has the share of time that each core computed; at least 1.

    Without shares, all of them.
    """
    if busy is None:
        return cores
    # A core that is busy half of the time, and another, are one core's worth of work, wherever the scheduler puts it.
    return max(1, min(cores, math.floor(len(busy) - sum(busy) + _BUSY)))


def _busy() -> list[float] | None:
    """The share of time that each core of this process was busy, measured just now; None where that is not known."""
    before = _times()
    if before is None:
        return None
    time.sleep(_SECONDS)
    return shares(before, _times() or before)


def _times() -> str | None:
    try:
        return _STAT.read_text()
    except OSError:  # not Linux
        return None


def shares(before: str, after: str) -> list[float]:
    """From two readings of /proc/stat, the share of time that each core of this process was busy between them."""
    mine = os.sched_getaffinity(0)
    first, second = (_by_core(text) for text in (before, after))
    found = []
    for core in sorted(mine & first.keys() & second.keys()):
        total, idle = (second[core][place] - first[core][place] for place in (0, 1))
        found.append(1 - idle / total if total > 0 else 0.0)
    return found


def _by_core(text: str) -> dict[int, tuple[int, int]]:
    """Ticks since the start of the machine, all and idle, by core (proc(5): user nice system idle iowait ...)."""
    lines = (line.split() for line in text.splitlines())
    return {
        int(name[3:]): (sum(map(int, ticks[:8])), int(ticks[3]) + int(ticks[4]))
        for name, *ticks in lines
        if name.startswith("cpu") and name[3:].isdecimal()
    }
