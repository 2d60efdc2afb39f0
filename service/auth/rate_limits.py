"""Rate limits: images per second and images in flight for each key, by token buckets.

All state belongs to the event loop's thread, so there are no locks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field

from service.errors import Problem, busy

RATE_LIMITED, IN_FLIGHT = "rate_limited", "images_in_flight"
_LEAST_BURST = 64  # images: the most in one request, unless FACET_MAX_COUNT says otherwise
_ROUNDING = 1e-9


class Limits(BaseModel):
    """The limits of a key; None is without limit.

    A bucket holds up to `burst` images and fills at `images_per_second`; a request takes one token for each image.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    burst: int | None = Field(default=None, ge=1, description="default: 64, or a second's worth if that is more")
    images_in_flight: int | None = Field(default=None, ge=1)

    @property
    def capacity(self) -> float:
        """Images in the full bucket."""
        if self.images_per_second is None:
            return math.inf
        return self.burst or max(_LEAST_BURST, math.ceil(self.images_per_second))


class TokenBucket:
    """What is left of the limits of a key. `clock` gives seconds; `rejected` counts refusals by reason."""

    def __init__(self, limits: Limits, rejected: Counter, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._rejected, self._clock = limits, rejected, clock
        self._tokens, self._filled = limits.capacity, clock()
        self._seconds = 1.0  # moving average of how long requests last; a guess until the first has ended
        self.in_flight = 0

    def change(self, limits: Limits) -> None:
        """Other limits apply from now on, also to images in flight."""
        if limits is self._limits:
            return
        self._fill()
        unlimited = self._limits.images_per_second is None
        self._limits = limits
        self._tokens = limits.capacity if unlimited else min(self._tokens, limits.capacity)

    def take(self, images: int, held: int) -> None:
        """Take tokens for `images` more of a request that has taken `held` already.

        Raises a Problem: 429 with the seconds to wait, or 413 where waiting would not help.
        """
        limits, wanted = self._limits, images + held
        most = min(limits.capacity, limits.images_in_flight or math.inf)
        if wanted > most:
            raise Problem(413, f"{wanted} images in one request; this key may ask for {most:g} at once")
        if limits.images_in_flight and self.in_flight + images > limits.images_in_flight:
            rule = f"this key may have {limits.images_in_flight} images under way at once"
            raise self._refusal(IN_FLIGHT, rule, self._seconds)
        self._fill()
        if limits.images_per_second and self._tokens + _ROUNDING < images:
            rule = f"this key may ask for {limits.images_per_second:g} images per second"
            raise self._refusal(RATE_LIMITED, rule, (images - self._tokens) / limits.images_per_second)
        self._tokens -= images
        self.in_flight += images

    def release(self, images: int, refund: bool, seconds: float) -> None:
        """A request of so many images ends after `seconds`; with `refund`, its tokens return to the bucket."""
        self.in_flight -= images
        self._seconds += 0.1 * (seconds - self._seconds)
        if refund:
            self._fill()
            self._tokens = min(self._tokens + images, self._limits.capacity)

    def reservation(self) -> Reservation:
        """A reservation for one request, empty at first."""
        return Reservation(self, self._clock)

    def _fill(self) -> None:
        now = self._clock()
        if rate := self._limits.images_per_second:
            self._tokens = min(self._tokens + rate * (now - self._filled), self._limits.capacity)
        self._filled = now

    def _refusal(self, reason: str, rule: str, seconds: float) -> Problem:
        self._rejected.labels(reason).inc()
        return busy(rule, seconds - _ROUNDING)


class Reservation:
    """The images that one request has taken of its key's limits."""

    def __init__(self, bucket: TokenBucket, clock: Callable[[], float]) -> None:
        self._bucket, self._clock, self._began = bucket, clock, clock()
        self.images = 0

    def raise_to(self, images: int) -> None:
        """The request has so many images; never fewer than before. Raises as `TokenBucket.take`."""
        if images > self.images:
            self._bucket.take(images - self.images, self.images)
            self.images = images

    def close(self, delivered: bool) -> None:
        """The request ends. Images that were not delivered are not charged."""
        self._bucket.release(self.images, not delivered, self._clock() - self._began)
        self.images = 0
