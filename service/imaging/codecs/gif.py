"""The blocks of GIF files (GIF89a) before the first frame: what decoding needs, and no comments and extensions."""

from __future__ import annotations

from service.errors import BrokenImageError
from service.imaging.codecs.prepared import Prepared, check_size

SIGNATURE = b"GIF8"
_FRAME, _EXTENSION, _CONTROL = b",", b"!", 0xF9
# A parser in Python reads them one by one, and a block of data may hold a single byte.
_MOST_BLOCKS = 20_000


def prepared(data: bytes, max_pixels: int) -> Prepared:
    """The file from its first frame on. Raises BrokenImageError where there is none, and ImageTooLargeError."""
    check_size(*(int.from_bytes(data[place : place + 2], "little") for place in (6, 8)), max_pixels)
    flags = data[10] if len(data) > 10 else 0
    head = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    position, control = head, b""
    for _ in range(_MOST_BLOCKS):
        lead = data[position : position + 1]
        if lead == _FRAME:
            return Prepared(data[:head] + control + data[position:])
        if lead != _EXTENSION:
            raise BrokenImageError("the GIF image has no frame")
        end = _end_of_data(data, position + 2)
        if data[position + 1 : position + 2] == bytes([_CONTROL]):
            control = data[position:end]  # what is transparent
        position = end
    raise _too_many()


def _end_of_data(data: bytes, position: int) -> int:
    """Where blocks of data end, each of which begins with its length."""
    for _ in range(_MOST_BLOCKS):
        if position >= len(data):
            raise BrokenImageError("the GIF image is truncated")
        if not data[position]:
            return position + 1
        position += 1 + data[position]
    raise _too_many()


def _too_many() -> BrokenImageError:
    return BrokenImageError(f"the GIF image has more than {_MOST_BLOCKS} blocks before its first frame")
