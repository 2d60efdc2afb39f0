"""Bits of coded pictures' headers, one number after the other."""

from __future__ import annotations

from service.errors import BrokenImageError


class Bits:
    """Reads numbers from bytes, the highest bit first. Its methods raise BrokenImageError at the end."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        """An unsigned number of so many bits."""
        self._left -= count
        if self._left < 0:
            raise BrokenImageError("the image's header is truncated or corrupt")
        return self._value >> self._left & (1 << count) - 1

    def exponential(self) -> int:
        """An unsigned Exp-Golomb code (ITU-T H.265, 9.2)."""
        zeros = 0
        while not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
