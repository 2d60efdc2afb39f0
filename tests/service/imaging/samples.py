"""Pictures of several formats that tests decode."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from service.imaging import codecs
from service.imaging.codecs import isobmff
from tests.service.fakes import encoded

LIMIT = 1_000_000

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)

PICTURE = Image.fromarray(PIXELS)

SMOOTH = PICTURE.resize((6, 8)).resize((60, 80), Image.Resampling.BICUBIC)


def translucent(image: Image.Image = PICTURE) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(codecs.decode(data, LIMIT))


def avif(image: Image.Image = SMOOTH, **options) -> bytes:
    return encoded(image, "AVIF", **options)


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload) + 8) + kind + payload


def full_box(kind: bytes, payload: bytes, version: int = 0) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]) + payload)


def grid(
    tile: bytes, side: int, rows: int, columns: int, size: tuple[int, int], items: int = 1, parents: int = 0
) -> bytes:
    """A HEIC of rows x columns tiles, which share the bytes of a HEIC `tile` of `side` pixels; its width and height
    are said to be `size`. There are `items` of tiles, which are taken in turn, and `parents` grids of one grid.
    """
    ((start, length),) = next(item.extents for item in isobmff._meta(tile).items.values() if item.kind == b"hvc1")
    place = tile.index(b"hvcC") - 4
    coding = tile[place : place + int.from_bytes(tile[place : place + 4], "big")]
    first = 1 + parents  # the number of the grid of tiles
    description = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, *size)
    kinds = [b"grid"] * first + [b"hvc1"] * items
    infos = [full_box(b"infe", struct.pack(">HH", 1 + each, 0) + kind + b"\0", 2) for each, kind in enumerate(kinds)]
    sizes = [full_box(b"ispe", struct.pack(">II", *each)) for each in (size, (side, side))]
    properties = b"".join(
        struct.pack(">HBB", 1 + each, 1, 1) if kind == b"grid" else struct.pack(">HBBB", 1 + each, 2, 2, 0x83)
        for each, kind in enumerate(kinds)
    )
    tiles = [first + 1 + each % items for each in range(rows * columns)]
    references = [box(b"dimg", struct.pack(">HHH", 1 + each, 1, 2 + each)) for each in range(parents)]
    references.append(box(b"dimg", struct.pack(f">HH{len(tiles)}H", first, len(tiles), *tiles)))

    def meta(behind: int) -> bytes:
        places = [
            struct.pack(">HHHHII", 1 + each, 1, 0, 1, 0, len(description))
            if kind == b"grid"
            else struct.pack(">HHHHII", 1 + each, 0, 0, 1, behind, length)
            for each, kind in enumerate(kinds)
        ]
        return full_box(
            b"meta",
            full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + full_box(b"pitm", struct.pack(">H", 1))
            + full_box(b"iinf", struct.pack(">H", len(infos)) + b"".join(infos))
            + full_box(b"iloc", b"\x44\0" + struct.pack(">H", len(places)) + b"".join(places), 1)
            + box(
                b"iprp",
                box(b"ipco", b"".join([*sizes, coding]))
                + full_box(b"ipma", struct.pack(">I", len(kinds)) + properties),
            )
            + full_box(b"iref", b"".join(references))
            + box(b"idat", description),
        )

    head = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    behind = len(head) + len(meta(0)) + 8
    return head + meta(behind) + box(b"mdat", tile[start : start + length])
