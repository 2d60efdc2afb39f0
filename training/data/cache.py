"""Arrays that are computed once and kept: NAME.npy in a directory, memory-mapped by everybody who needs it.

While it is filled, the array is NAME.part, locked by the process that fills it. Another process that wants the same
array waits for it. What a killed process leaves is not locked, and is removed when the next array is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np


class CacheError(ValueError):
    """An array cannot be kept; the message names the file and says why."""


def kept(directory: Path, name: str, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> np.ndarray:
    """The uint8 array of `shape` that `fill` writes into, read-only and memory-mapped from `directory`.

    All of its place on the disk is taken before `fill` is called: in a memory-mapped file, a full disk would show as a
    signal that kills the process. If `fill` raises, no file is left. Raises CacheError for what the disk refuses.
    """
    path = Path(directory) / f"{name}.npy"
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _make(path, shape, fill)
        except OSError as exc:
            size = np.prod(shape, dtype=np.int64) / 1e6
            raise CacheError(f"{path}: {exc.strerror or exc}; {size:.1f} MB are to be kept there") from exc
    return np.load(path, mmap_mode="r")


def _make(path: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> None:
    _remove_leftovers(path.parent)
    part = path.with_suffix(".part")
    with _locked(part) as file:
        if path.exists():  # from the process that had the lock before
            part.unlink(missing_ok=True)
            return
        try:
            array = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
            _allocate(file, part.stat().st_size)
            fill(array)
            array.flush()
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _allocate(file: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file, 0, size)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A descriptor of the file, made if need be, that this process alone has locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(file, path):
                yield file
                return
        finally:
            os.close(file)


def _is_at(file: int, path: Path) -> bool:
    """Whether the descriptor's file still has this name: who held the lock before has renamed or removed it."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _remove_leftovers(directory: Path) -> None:
    for path in directory.glob("*.part"):
        with contextlib.suppress(OSError):  # in use, or removed by another process
            file = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(file, path):
                    path.unlink()
            finally:
                os.close(file)
