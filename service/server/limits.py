"""Limits on request bodies: bytes of one, and of all that are held at once."""

from __future__ import annotations

from service.errors import Problem, busy
from service.telemetry.metrics import Metrics


class BodyBudget:
    """Bytes of request bodies that are held at once: at most `limit`, but a single body is always accepted."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        self._limit, self._rejected = limit, metrics.rejected.labels("bodies_full")
        self.held = 0
        metrics.body_bytes.set_function(lambda: self.held)

    def check(self, own: int, more: int) -> None:
        """Raises a 429 Problem where a request that holds `own` bytes cannot have `more`."""
        if self.held + more > self._limit and self.held > own:
            self._rejected.inc()
            raise busy("too many uploads are under way", 1.0)

    def add(self, count: int) -> None:
        """`count` more bytes are held."""
        self.held += count

    def release(self, count: int) -> None:
        """`count` bytes are no longer held."""
        self.held -= count


class BodyLimit:
    """Counts the bytes of one body against `limit` and against the budget of all bodies, until `close`.

    `promised` is its Content-Length. A promise too large is refused at once, but only received bytes are held: a client
    that never sends what it promised keeps nobody out.
    """

    def __init__(self, limit: int, promised: int, budget: BodyBudget, metrics: Metrics) -> None:
        self._limit, self._promised, self._budget = limit, promised, budget
        self._rejected = metrics.rejected.labels("body_too_large")
        self._received = 0

    def check_promise(self) -> None:
        """Raises a Problem before the first byte is received: 413 or 429."""
        if self._promised > self._limit:
            raise self._too_large(f"has {self._promised} bytes")
        if not self._received:
            self._budget.check(0, self._promised)

    def add(self, count: int) -> None:
        """`count` more bytes were received. Raises a Problem: 413 or 429."""
        self._received += count
        self._budget.add(count)
        if self._received > self._limit:
            raise self._too_large(f"has more than {self._limit} bytes")
        self._budget.check(self._received, 0)

    def close(self) -> None:
        """The request ends, and its body is no longer held."""
        self._budget.release(self._received)
        self._received = 0

    def _too_large(self, found: str) -> Problem:
        self._rejected.inc()
        rule = f"at most {self._limit} bytes are accepted"
        return Problem(413, f"the request body {found}; {rule}", [{"field": "body", "rule": rule}])
