"""When a call is worth another try, and how long to wait before it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from facet.errors import ConnectError, FacetError, RateLimited, Unavailable

_FIRST_PAUSE = 0.25


@dataclass(frozen=True)
class Retries:
    """A call is sent at most `tries` times. Only a full queue, a service that is not ready and a connection that
    failed are worth another one.

    Where the service says when to come again, that is when; a wait beyond `longest_wait` seconds is left to the caller,
    as the error that says so. Otherwise the pauses double from a quarter of a second, up to `longest_wait`.
    """

    tries: int = 4
    longest_wait: float = 30.0

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries={self.tries}: must be at least 1")
        if not self.longest_wait >= 0:
            raise ValueError(f"longest_wait={self.longest_wait}: must be a number of seconds, 0 or more")

    def pause(self, error: FacetError, tried: int) -> float:
        """Seconds to wait after `tried` tries, the last of which ended with `error`. Raises `error` when it is over."""
        if tried >= self.tries or not isinstance(error, ConnectError | RateLimited | Unavailable):
            raise error
        requested = None if isinstance(error, ConnectError) else error.retry_after
        if requested is None:
            # Spread out, so that clients that failed together do not come back together.
            return min(self.longest_wait, _FIRST_PAUSE * 2 ** (tried - 1) * random.uniform(0.5, 1.0))
        if requested > self.longest_wait:
            raise error
        return requested
