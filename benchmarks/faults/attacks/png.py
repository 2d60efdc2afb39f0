"""Attacks on PNG."""

from __future__ import annotations

import random
import struct
import zlib
from functools import cache

from benchmarks.faults.attacks.samples import PNG_SIGNATURE, laughs, sound


def chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def chunks_of(data: bytes) -> list[bytes]:
    """The chunks of a sound PNG."""
    found, place = [], len(PNG_SIGNATURE)
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append(data[place : place + length + 12])
        place += length + 12
    return found


@cache
def _zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(count // 1_000_000)), packer.flush()])


def png_bomb(rng: random.Random) -> bytes:
    """Much more than is accepted, or just as much, in a small file."""
    width, height = rng.choice(((60_000, 60_000), (30_000, 1100), (5000, 6000), (1, 31_000_000), (5600, 5600)))
    return PNG_SIGNATURE + _header(width, height, 1, 0) + chunk(b"IDAT", _zeros(4_000_000)) + chunk(b"IEND", b"")


def png_sizes(rng: random.Random) -> bytes:
    """A size that the data do not fill, or overfill."""
    sides = (0, 1, 3, 177, 179, 1000, 4096, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
    rest = chunks_of(sound()["png"])[1:]
    header = _header(rng.choice(sides), rng.choice(sides), rng.choice((1, 2, 4, 8, 16, 7)), rng.randrange(8))
    return PNG_SIGNATURE + header + b"".join(rest)


def png_chunk_order(rng: random.Random) -> bytes:
    chunks = chunks_of(sound()[rng.choice(("png", "png-rgba", "png-palette", "apng"))])
    match rng.randrange(4):
        case 0:
            rng.shuffle(chunks)
        case 1:
            chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
        case 2:
            del chunks[rng.randrange(len(chunks))]
        case 3:
            chunks[1:1] = [chunk(b"tEXt", b"a\0b")] * rng.choice((10, 3000))
    return PNG_SIGNATURE + b"".join(chunks)


def png_texts(rng: random.Random) -> bytes:
    """Compressed texts and profiles that grow, or that are not what they say."""
    bomb = _zeros(rng.choice((1_000_000, 60_000_000)))
    kind = rng.choice(
        (
            chunk(b"zTXt", b"Comment\0\0" + bomb),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb),
            chunk(b"iCCP", b"p\0\0" + bomb),
            chunk(b"iCCP", b"p\0\0" + rng.randbytes(100)),
            chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + laughs()),
            chunk(b"eXIf", rng.randbytes(60)),
            chunk(b"tRNS", rng.randbytes(rng.randrange(300))),
            chunk(b"PLTE", rng.randbytes(rng.randrange(900))),
            chunk(b"gAMA", b"\0\0\0\0") + chunk(b"cHRM", bytes(32)),
        )
    )
    first, *rest = chunks_of(sound()[rng.choice(("png", "png-palette"))])
    return PNG_SIGNATURE + first + kind * rng.choice((1, 1, 20)) + b"".join(rest)


def png_frames(rng: random.Random) -> bytes:
    """An animation that lies about its frames."""
    first, *rest = chunks_of(sound()["apng"])
    control = chunk(b"acTL", struct.pack(">II", rng.choice((0, 1, 2**31 - 1)), rng.choice((0, 2**32 - 1))))
    place = struct.pack(">IIIIIHHBB", 0, *(rng.choice((0, 1, 178, 2**31)) for _ in range(4)), 1, 0, 9, 9)
    return PNG_SIGNATURE + first + control + chunk(b"fcTL", place) + b"".join(rest)
