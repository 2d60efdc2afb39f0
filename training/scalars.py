"""What a run logs: means of scalars over the steps since the last report."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping

from torch import Tensor


class Interval:
    """The scalars of the steps since the last report."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()  # of each name: not every step has every term
        self._steps, self._start = 0, time.monotonic()

    def add(self, scalars: dict[str, Tensor]) -> None:
        for name, value in scalars.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._counts.update(scalars.keys())
        self._steps += 1

    def means(self) -> dict[str, Tensor]:
        return {name: total / self._counts[name] for name, total in self._sums.items()}

    @property
    def steps_per_second(self) -> float:
        return self._steps / (time.monotonic() - self._start)


def not_finite(scalars: Mapping[str, float | Tensor]) -> list[str]:
    """The names of those that are infinite or no number."""
    return [name for name, value in scalars.items() if not math.isfinite(value)]
