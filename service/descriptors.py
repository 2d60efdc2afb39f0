"""How many files and sockets this process may have open at once."""

from __future__ import annotations

import math

try:
    import resource
except ImportError:  # on Windows there is no such limit
    resource = None


# More than connections and forms of one process need; some systems say "no limit" and mean less.
_ENOUGH = 65_536


def raise_limit() -> None:
    """As many as this process may give itself, up to _ENOUGH: the usual soft limit is for programs with select()."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def limit() -> float:
    """The soft limit of descriptors; infinite where there is none."""
    if resource is None:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft
