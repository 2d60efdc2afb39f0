"""How many files and sockets this process may have open at once."""

from __future__ import annotations

import math

try:
    import resource
except ImportError:  # on Windows there is no such limit
    resource = None


def limit() -> float:
    """The soft limit of descriptors; infinite where there is none."""
    if resource is None:
        return math.inf
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if soft == resource.RLIM_INFINITY else soft
