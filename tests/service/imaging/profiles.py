"""Colour profiles, drawn: a press (CMYK to Lab by a table), and sRGB."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from functools import cache

from PIL import ImageCms

_D50 = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
Lab = tuple[float, float, float]


@cache
def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def ink(cyan: float, magenta: float, yellow: float, black: float) -> Lab:
    """What a press prints of shares of inks: its cyan is no pure one, its black not quite black."""
    light = (1 - 0.4 * cyan) * (1 - 0.5 * magenta) * (1 - 0.1 * yellow) * (1 - 0.9 * black)
    a = (-35 * cyan + 75 * magenta - 5 * yellow) * (1 - black)
    b = (-50 * cyan - 4 * magenta + 90 * yellow) * (1 - black)
    return 100 * light, a, b


def press(printed: Callable[..., Lab] = ink, nodes: int = 5, space: bytes = b"CMYK", more: tuple[bytes, ...] = ()):
    """An output profile (ICC.1:2001-04) with a table of `nodes` for each ink, and empty tags of the names `more`."""
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 6) + b"press\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + _D50,
        b"A2B0": _table(printed, nodes),
    } | dict.fromkeys(more, b"mpet" + bytes(8))
    entries, values, offset = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        entries += name + struct.pack(">II", offset + len(values), len(value))
        values += value + bytes(-len(value) % 4)
    header = struct.pack(">I4sI", offset + len(values), b"none", 0x02400000) + b"prtr" + space + b"Lab "
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _D50
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + values


def _table(printed: Callable[..., Lab], nodes: int) -> bytes:
    """lut8Type."""
    unity = struct.pack(">9i", *(0x10000 if place % 4 == 0 else 0 for place in range(9)))
    straight = bytes(range(256))
    colours = b""
    for shares in itertools.product(range(nodes), repeat=4):
        light, a, b = printed(*(share / (nodes - 1) for share in shares))
        colours += bytes(int(min(255, max(0, round(value)))) for value in (2.55 * light, 128 + a, 128 + b))
    return b"mft1" + bytes(4) + bytes([4, 3, nodes, 0]) + unity + 4 * straight + colours + 3 * straight
