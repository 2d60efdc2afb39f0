"""The chunks of WebP files (RFC 9649)."""

from __future__ import annotations

from collections.abc import Iterator

from service.errors import BrokenImageError
from service.imaging.codecs import metadata
from service.imaging.codecs.photo import Coding
from service.imaging.codecs.prepared import Prepared, check_size

LARGEST_SIDE = 16_383
_LOSSY, _LOSSLESS, _EXTENDED, _FRAME = b"VP8 ", b"VP8L", b"VP8X", b"ANMF"
# Flags of the extended header.
_XMP, _EXIF, _ALPHA, _PROFILE = 4, 8, 16, 32
_MOST_CHUNKS = 50_000


def chunks(data: bytes, position: int = 12) -> Iterator[tuple[bytes, bytes]]:
    """Type and payload of each chunk that is whole. Raises BrokenImageError where there are too many."""
    for _ in range(_MOST_CHUNKS):
        kind, size = data[position : position + 4], int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8
        if position + size > len(data) or len(kind) < 4:
            return
        yield kind, data[position : position + size]
        position += size + size % 2
    raise BrokenImageError(f"the WebP image has more than {_MOST_CHUNKS} chunks")


def prepared(data: bytes, max_pixels: int) -> Prepared:
    """The file as it is. Raises BrokenImageError and ImageTooLargeError: its decoder allocates early."""
    size = _size(data)
    if size is not None:
        check_size(*size, max_pixels)
    return Prepared(data, coding=lambda _: Coding(lossless=_is_lossless(data)), buffered=True)


def marked(data: bytes, packet: bytes, with_exif: bool) -> bytes | None:
    """The picture's file with another XMP packet, and without metadata but orientation and resolution.

    Its EXIF data are left as they are `with_exif`. No pixel changes. None for an animation.
    """
    found: dict[bytes, bytes] = {}
    for kind, payload in chunks(data):
        found.setdefault(kind, payload)
    size = _size(data)
    if size is None or _FRAME in found:
        return None
    if next(iter(found)) != _EXTENDED:  # of a simple file the picture alone counts
        found = {kind: payload for kind, payload in found.items() if kind in (_LOSSY, _LOSSLESS)}
    exif = found.get(b"EXIF", b"").removeprefix(metadata.PREFIX)
    added = {b"EXIF": exif if with_exif else metadata.essential(exif), b"XMP ": packet}
    # In the order that the format prescribes.
    kept = {kind: found.get(kind, b"") for kind in (b"ICCP", b"ALPH", _LOSSY, _LOSSLESS)} | added
    has_alpha = b"ALPH" in found or (_LOSSLESS in found and bool(found[_LOSSLESS][4] & 16))
    flags = sum(
        flag
        for flag, present in (
            (_PROFILE, kept[b"ICCP"]),
            (_ALPHA, has_alpha),
            (_EXIF, added[b"EXIF"]),
            (_XMP, packet),
        )
        if present
    )
    header = flags.to_bytes(4, "little") + b"".join((side - 1).to_bytes(3, "little") for side in size)
    body = b"WEBP" + _chunk(_EXTENDED, header) + b"".join(_chunk(*each) for each in kept.items() if each[1])
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + len(payload).to_bytes(4, "little") + payload + bytes(len(payload) % 2)


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height as the first chunk tells them."""
    kind, payload = next(chunks(data), (b"", b""))
    if kind == _EXTENDED and len(payload) >= 10:
        return tuple(1 + int.from_bytes(payload[place : place + 3], "little") for place in (4, 7))
    if kind == _LOSSLESS and len(payload) >= 5:
        bits = int.from_bytes(payload[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == _LOSSY and len(payload) >= 10:
        return tuple(int.from_bytes(payload[place : place + 2], "little") & 0x3FFF for place in (6, 8))
    return None


def _is_lossless(data: bytes) -> bool:
    """Whether the picture, or the first frame of an animation, is."""
    for kind, payload in chunks(data):
        if kind in (_LOSSY, _LOSSLESS):
            return kind == _LOSSLESS
        if kind == _FRAME:
            return any(inner == _LOSSLESS for inner, _ in chunks(payload, 16))
    return False
