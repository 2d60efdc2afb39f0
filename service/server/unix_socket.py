"""Listening on a Unix socket: a file of a given mode, which replaces that of a server that has gone."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class SocketError(Exception):
    """The socket cannot be made; the message names its path and the reason."""


@contextmanager
def bound(path: Path, mode: int) -> Iterator[socket.socket]:
    """A socket bound to a new file of that mode, which is removed at the end.

    A socket file to which nobody listens is replaced. Raises SocketError for a file of another kind, for a socket that
    another process listens to, and for whatever the operating system refuses.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        mask = os.umask(0o777 & ~mode)  # before it exists, so that at no time more may connect
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        path.chmod(mode)
        own = path.stat()
    except OSError as exc:
        listener.close()
        raise SocketError(f"{path}: {exc.strerror or exc}") from exc
    try:
        yield listener
    finally:
        listener.close()
        with suppress(OSError):
            if os.path.samestat(own, path.lstat()):  # else another server has replaced it
                path.unlink()


def _remove_stale(path: Path) -> None:
    try:
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise FileExistsError(errno.EEXIST, "exists and is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # or it would wait for one that accepts no connections any more
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:  # its queue of connections is full
            pass
    raise OSError(errno.EADDRINUSE, "another process listens there")
