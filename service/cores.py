"""How many processor cores this process may use: a container's or a pinned process's share, not the machine's."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable(cgroups: Path = _CGROUPS) -> int:
    """Cores of this process: those it may run on, or its cgroup's quota, rounded up, if that is less; at least 1."""
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        allowed = os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota(cgroups))))


def _quota(cgroups: Path) -> float:
    """Cores that the cgroup at the root of this process's view may use; infinite where it has no limit."""
    try:  # version 2: "MICROSECONDS PERIOD", or "max PERIOD"
        quota, period = (cgroups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:  # version 1: -1 without a limit
            quota = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        except OSError:
            return math.inf
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return math.inf
    return cores if cores > 0 else math.inf
