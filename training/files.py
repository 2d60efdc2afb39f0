"""Where commands write: whether they can, found out before the work, and nothing left behind where they fail."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from service import system


@contextlib.contextmanager
def directory(path: Path) -> Iterator[Path]:
    """Make a directory and its parents; those that were made and are empty vanish again if the block fails.

    An OSError of the block that names no file, as of a full disk, names the directory.
    """
    made = [each for each in (path, *path.parents) if not each.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield path
    except OSError as exc:
        _remove(made)
        if exc.filename is None and exc.errno is not None:
            raise OSError(exc.errno, exc.strerror, str(path)) from exc
        raise
    except BaseException:
        _remove(made)
        raise


@contextlib.contextmanager
def appearing(out: Path) -> Iterator[Path]:
    """An empty directory beside `out`, which takes that name when the block succeeds and vanishes when not.

    No other process writes to it: it is locked, and what a killed process left there is removed. Raises
    BlockingIOError if another one is at it, and OSError for what the disk refuses.
    """
    temporary = out.with_name(f".{out.name}.part")
    with directory(out.parent):
        temporary.mkdir(exist_ok=True)
        lock = os.open(temporary, os.O_RDONLY)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise BlockingIOError(exc.errno, "another process is writing there", str(temporary)) from exc
            try:
                for leftover in temporary.iterdir():
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
                yield temporary
                temporary.replace(out)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        finally:
            os.close(lock)


def write_text(path: Path, text: str) -> None:
    """Write the whole of a file or nothing, with its directory. Raises OSError that names `path`."""
    with directory(path.parent):
        try:
            with system.atomic_write(path) as file:
                file.write(text.encode())
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror, str(path)) from exc


def require_writable(path: Path, option: str) -> None:
    """Find out whether files can be written to the directory `path`, which is left as it was.

    Raises OSError that names `option`.
    """
    made = [each for each in (path, *path.parents) if not each.exists()]
    try:
        with directory(path), tempfile.TemporaryFile(dir=path):
            pass
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, f"{option} {path}") from exc
    finally:
        _remove(made)


def _remove(directories: list[Path]) -> None:
    """Those that are empty, the deepest first."""
    for each in directories:
        with contextlib.suppress(OSError):
            each.rmdir()


def one_line(exc: OSError) -> str:
    """What the system refused, as one line that names the file."""
    prefix = f"{os.fsdecode(exc.filename)}: " if exc.filename else ""
    return f"{prefix}{exc.strerror or exc}"
