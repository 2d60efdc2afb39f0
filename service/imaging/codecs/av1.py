"""How many pixels AV1 data decode to (AV1 Bitstream and Decoding Process Specification)."""

from __future__ import annotations

from service.errors import BrokenImageError
from service.imaging.codecs.bits import Bits

_SEQUENCE, _FRAME_HEADER, _FRAME = 1, 3, 6  # types of open bitstream units
_MOST_UNITS = 20_000


def decoded_pixels(data: bytes, length_size: int) -> int:
    """Those of all frames, shown or not, each of its sequence's largest size. Raises BrokenImageError."""
    position, largest, pixels = 0, 0, 0
    for _ in range(_MOST_UNITS):
        if position >= len(data):
            return pixels
        header = data[position]
        kind, extended, sized = header >> 3 & 15, header >> 2 & 1, header >> 1 & 1
        position += 1 + extended
        length, position = _length(data, position) if sized else (len(data) - position, position)
        if kind == _SEQUENCE:
            largest = _largest_frame(data[position : position + min(length, 200)])
        elif kind in (_FRAME_HEADER, _FRAME):
            pixels += largest
        position += length
    raise BrokenImageError(f"the image has more than {_MOST_UNITS} units of data")


def _length(data: bytes, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = 0
    for place in range(8):
        if position + place >= len(data):
            break
        byte = data[position + place]
        value |= (byte & 127) << 7 * place
        if not byte & 128:
            return value, position + place + 1
    raise BrokenImageError("the image is truncated or corrupt")


def _largest_frame(payload: bytes) -> int:
    """Pixels that a sequence's frames may have: section 5.5.1."""
    bits = Bits(payload)
    bits.take(3 + 1)  # profile, still picture
    if bits.take(1):  # reduced still picture header
        bits.take(5)
    else:
        decoder_model = False
        if bits.take(1):  # timing
            bits.take(32 + 32)
            if bits.take(1):  # equal intervals
                zeros = 0
                while not bits.take(1):
                    zeros += 1
                bits.take(min(zeros, 32))
            decoder_model = bool(bits.take(1))
            if decoder_model:
                delay = bits.take(5) + 1
                bits.take(32 + 5 + 5)
        initial_delay = bits.take(1)
        for _ in range(bits.take(5) + 1):  # operating points
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
            if decoder_model and bits.take(1):
                bits.take(2 * delay + 1)
            if initial_delay and bits.take(1):
                bits.take(4)
    of_width, of_height = bits.take(4) + 1, bits.take(4) + 1
    return (bits.take(of_width) + 1) * (bits.take(of_height) + 1)
