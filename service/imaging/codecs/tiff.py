"""The first directory of TIFF files (TIFF 6.0): what decoding needs of it, bounded.

Files of more than 4 GB (BigTIFF), raw photographs, and samples of more than 16 bits are not accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.errors import BrokenImageError, UnsupportedImageError
from service.imaging.codecs import jpeg
from service.imaging.codecs.colour import LARGEST_PROFILE, in_strips
from service.imaging.codecs.prepared import Prepared, as_it_is, check_size

SIGNATURES = (b"II*\0", b"MM\0*")

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANES = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_OF_STRIPS, _OF_TILES = (_STRIPS, _ROWS, _STRIP_BYTES), (_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES)
_FORMAT, _TABLES, _PACKET, _PROFILE = 339, 347, 700, 34675
_RAW_PHOTOGRAPH = 50706  # DNG's version
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}  # bytes of a value, by its type
_WHOLE_NUMBERS = (1, 3, 4)
# Orientation, fill order, resolutions and their unit, predictor, colour map, extra samples, sampling of chroma and its
# reference values.
_OTHERS = (266, 274, 282, 283, 296, 317, 320, 338, 530, 532)
_KEPT = {
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANES),
    *(_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _FORMAT, _TABLES, _PACKET, _PROFILE, *_OTHERS),
}
_LARGEST = {_PACKET: 1_000_000, _PROFILE: LARGEST_PROFILE, **dict.fromkeys((_STRIPS, _STRIP_BYTES), 2**20)}
_LARGEST |= dict.fromkeys((_TILES, _TILE_BYTES), 2**20)
_LARGEST_VALUE = 70_000  # bytes of all others

_UNCOMPRESSED, _JPEG = 1, 7
# CCITT, LZW, deflate by two numbers, PackBits.
_COMPRESSIONS = {_UNCOMPRESSED, 2, 3, 4, 5, 8, 32946, 32773, _JPEG}
_MOST_PARTS = 20_000  # strips or tiles; a parser in Python reads them one by one
_WHITE_IS_ZERO = 0


@dataclass(frozen=True)
class _Entry:
    """A tag's type, its values if they are whole numbers, and its 12 bytes."""

    kind: int
    values: tuple[int, ...]
    raw: bytes


def prepared(data: bytes, max_pixels: int) -> Prepared:
    """The first picture, with its profile and its XMP packet. Raises ImageErrors."""
    order = "little" if data.startswith(SIGNATURES[0]) else "big"
    entries = _directory(data, order)

    def value(tag: int, default: int) -> int:
        found = entries.get(tag)
        return found.values[0] if found and found.values else default

    width, height = value(_WIDTH, 0), value(_HEIGHT, 0)
    check_size(width, height, max_pixels)
    if _RAW_PHOTOGRAPH in entries or value(_SUBFILE, 0) & 1:
        raise UnsupportedImageError("the TIFF image is a preview of another; raw photographs are not accepted")
    bits, compression = value(_BITS, 1), value(_COMPRESSION, _UNCOMPRESSED)
    if bits > 16 or value(_FORMAT, 1) != 1:
        raise UnsupportedImageError("the TIFF image has samples that are not accepted; they may be integers of 16 bits")
    if compression not in _COMPRESSIONS:
        raise UnsupportedImageError(f"the TIFF image has a compression that is not accepted ({compression})")
    parts = _parts(data, entries, value, width, height)
    if compression == _JPEG:
        _check_jpegs(data, parts, max_pixels)
    inverted = (bits, value(_PHOTOMETRIC, _WHITE_IS_ZERO)) == (16, _WHITE_IS_ZERO)
    # What was checked, so that no parser takes the one where the other is meant.
    dropped = _OF_STRIPS if _TILES in entries else _OF_TILES
    kept = [entry.raw for tag, entry in entries.items() if tag in _KEPT and tag not in dropped]
    # The directory is written anew behind the file, and its header leads there.
    place = len(data) + len(data) % 2
    directory = len(kept).to_bytes(2, order) + b"".join(kept) + bytes(4)
    file = b"".join([data[:4], place.to_bytes(4, order), data[8:], bytes(len(data) % 2), directory])
    return Prepared(file, finish=_inverted if inverted else as_it_is)


def _directory(data: bytes, order: str) -> dict[int, _Entry]:
    """The entries of the first directory that are of use."""
    start = int.from_bytes(data[4:8], order)
    count = int.from_bytes(data[start : start + 2], order)
    if start < 8 or not count or start + 2 + 12 * count > len(data):
        raise BrokenImageError("the TIFF image's header is truncated or corrupt")
    entries: dict[int, _Entry] = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        raw = data[place : place + 12]
        tag, kind, number = (int.from_bytes(raw[a:b], order) for a, b in ((0, 2), (2, 4), (4, 8)))
        if tag not in _KEPT and tag not in (_SUBFILE, _RAW_PHOTOGRAPH):
            continue
        size = number * _SIZES.get(kind, 0)
        if not size or tag in entries:
            continue
        if size > _LARGEST.get(tag, _LARGEST_VALUE):
            if tag in (_PACKET, _PROFILE):
                continue
            raise BrokenImageError(f"the TIFF image has too many values of tag {tag}")
        begin = int.from_bytes(raw[8:], order) if size > 4 else place + 8
        if begin + size > len(data):
            raise BrokenImageError("the TIFF image is truncated")
        values: tuple[int, ...] = ()
        if kind in _WHOLE_NUMBERS and tag not in (_TABLES, _PACKET, _PROFILE):
            letter = {1: "u1", 3: "u2", 4: "u4"}[kind]
            stored = np.frombuffer(data, f"{'<' if order == 'little' else '>'}{letter}", number, begin)
            values = tuple(stored.tolist())
        entries[tag] = _Entry(kind, values, raw)
    return entries


def _parts(
    data: bytes, entries: dict[int, _Entry], value: Callable[[int, int], int], width: int, height: int
) -> list[tuple[int, int]]:
    """Start and length of each strip or tile. Raises BrokenImageError where they cannot be those of the picture."""
    tiled = _TILES in entries
    offsets, lengths = (
        entries[tag].values if tag in entries else ()
        for tag in ((_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES))
    )
    across = value(_TILE_WIDTH, 0) if tiled else width
    down = value(_TILE_HEIGHT, 0) if tiled else min(value(_ROWS, height), height)
    if not (across and down and width and height):
        raise BrokenImageError("the TIFF image's header is truncated or corrupt")
    planes = value(_SAMPLES, 1) if value(_PLANES, 1) == 2 else 1
    expected = -(-width // across) * -(-height // down) * planes
    if len(offsets) != expected or len(lengths) not in (0, expected) or expected > _MOST_PARTS:
        raise BrokenImageError("the TIFF image has a wrong number of strips or tiles, or too many")
    # Tiles reach beyond the picture, but not far; and no two parts share their data.
    if tiled and expected * across * down > 4 * width * height * planes + 2**22:
        raise BrokenImageError("the TIFF image has tiles that are too large for it")
    if sum(lengths) > 2 * len(data):
        raise BrokenImageError("the TIFF image has strips or tiles that overlap")
    return list(zip(offsets, lengths or [0] * expected, strict=True))


def _check_jpegs(data: bytes, parts: list[tuple[int, int]], max_pixels: int) -> None:
    """Raises BrokenImageError where the scans of all parts together have more work than those of one JPEG may."""
    blocks = 0
    for start, length in parts:
        found = jpeg.parse(data[start : start + length], max_pixels, jpeg.MOST_SCANNED_BLOCKS - blocks)
        blocks += found.scanned_blocks


def _inverted(image: Image.Image) -> Image.Image:
    """Sixteen bits of which zero is white, as 8 bits."""
    return in_strips(image, lambda levels: (255 - (levels >> 8)).astype(np.uint8))
