"""How many pictures HEVC data hold (ITU-T H.265)."""

from __future__ import annotations

from service.errors import BrokenImageError

_MOST_UNITS = 20_000
_SLICES = range(32)  # types of units


def check(data: bytes, length_size: int) -> int:
    """Raises BrokenImageError where an item holds more than its one picture. The decoder bounds its size itself: 0."""
    position, pictures = 0, 0
    for _ in range(_MOST_UNITS):
        start = position + length_size
        if start + 3 > len(data):
            return 0
        # The first bit behind a slice's header of two bytes says that it begins a picture.
        pictures += (data[start] >> 1 & 63) in _SLICES and data[start + 2] >> 7
        if pictures > 1:
            raise BrokenImageError("the image has more to decode than its size promises")
        position = start + int.from_bytes(data[position:start], "big")
    raise BrokenImageError(f"the image has more than {_MOST_UNITS} units of data")
