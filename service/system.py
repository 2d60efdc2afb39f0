"""The operating system and the installation: cores, file descriptors, files, and the installed version."""

from __future__ import annotations

import ctypes
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import BinaryIO

try:
    import resource
except ImportError:  # on Windows there is no such limit
    resource = None

try:
    VERSION = version("facet")
except PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0+unknown"

# M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of mallopt(3), and bytes
_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 8_000_000
_TRIM_THRESHOLD, _FREE_AT_END = -1, 2 * _LARGE_BLOCK
_CGROUPS = Path("/sys/fs/cgroup")
# More descriptors than connections and forms of one process need; some systems say "no limit" and mean less.
_MAX_DESCRIPTORS = 65_536


def available_cores(cgroups: Path = _CGROUPS) -> int:
    """Cores that this process may run on at once, by its affinity and by the quota of its control group; at least 1.

    A quota of 1.5 cores counts as 2: one thread more than fits is throttled a little, one less leaves some unused.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _quota(cgroups: Path) -> float | None:
    """Cores' worth of time in each period, by version 2 or 1 of control groups; None without a limit."""
    try:
        if (cgroups / "cpu.max").is_file():
            quota, period = (cgroups / "cpu.max").read_text().split()
        else:
            quota = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no control group, or "max"
        return None


def release_large_blocks() -> None:
    """Let memory blocks above 8 MB return to the system once they are freed, where the C library is glibc.

    By default it raises that threshold with the blocks that are freed, up to 32 MB, and keeps those of pictures in the
    heaps of the threads. Once it is set, heaps would shrink whenever 128 kB at their end are free, and a slider's step
    would spend 4 ms on mapping the same pages again; they keep 16 MB, twice the threshold, as glibc sees to by default.
    MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ in the environment take precedence.
    """
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
            library.mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)
        if "MALLOC_TRIM_THRESHOLD_" not in os.environ:
            library.mallopt(_TRIM_THRESHOLD, _FREE_AT_END)


def trim_heaps() -> None:
    """Return the free pages of all heaps to the system, where the C library is glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors as far as this process may: the usual one is for programs with select()."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def descriptor_limit() -> float:
    """The soft limit of descriptors; infinite where there is none."""
    if resource is None:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` when the block succeeds. Readers find the old content or the new one.

    It is on the disk before it replaces `path`, and keeps the permissions of the file there. Until then its name is
    `.NAME.PID.tmp`; if the block fails, it is removed. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if path.exists():
                shutil.copymode(path, temporary)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
