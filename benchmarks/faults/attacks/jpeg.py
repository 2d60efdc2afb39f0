"""Attacks on JPEG and its metadata."""

from __future__ import annotations

import random
import struct

from benchmarks.faults.attacks.png import chunk, chunks_of
from benchmarks.faults.attacks.samples import PNG_SIGNATURE, any_file, laughs, sound


def segment(marker: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2 if length is None else length) + data


def with_segment(rng: random.Random, segment: bytes) -> bytes:
    data = any_file(rng, "jpeg")
    return data[:2] + segment + data[2:]


def jpeg_sizes(rng: random.Random) -> bytes:
    """Another size, precision, or number and sampling of components in the frame's header."""
    data = bytearray(any_file(rng, "jpeg"))
    start = next(p for p in range(len(data)) if data[p] == 0xFF and data[p + 1] in (0xC0, 0xC2))
    sides = (0, 1, 177, 1000, 5000, 65_535)
    struct.pack_into(">BHH", data, start + 4, rng.choice((8, 8, 8, 12, 0)), rng.choice(sides), rng.choice(sides))
    if rng.random() < 0.3:
        data[start + 9] = rng.choice((0, 1, 2, 4, 255))
    if rng.random() < 0.3:
        data[start + 11] = rng.choice((0x00, 0x14, 0x41, 0x44, 0xFF))
    if rng.random() < 0.2:
        data[start + 1] = rng.choice((0xC1, 0xC3, 0xC9, 0xCA))
    return bytes(data)


def jpeg_scans(rng: random.Random) -> bytes:
    """Scans without end, each of which costs a pass over the whole picture."""
    data = sound()["jpeg-progressive"]
    place = data.index(b"\xff\xda")
    scan = data[place : data.index(b"\xff\xda", place + 2)]
    return data[:-2] + scan * rng.choice((5, 60, 2000)) + b"\xff\xd9"


def jpeg_tables(rng: random.Random) -> bytes:
    marker = rng.choice((0xC4, 0xDB, 0xDD, 0xDA, 0xEE, 0xFE))
    return with_segment(rng, segment(marker, rng.randbytes(rng.randrange(300))) * rng.choice((1, 200)))


def exif(rng: random.Random) -> bytes:
    """Metadata that point at themselves, beyond their end, or at more than there is."""
    order = rng.choice("<>")
    entries = b"".join(
        struct.pack(
            order + "HHII",
            rng.choice((0x0112, 0x8769, 0x8825, 0x014A, 0x0201, 0xA005, rng.randrange(65536))),
            rng.randrange(14),
            rng.choice((0, 1, 2**16, 2**31, 2**32 - 1)),
            rng.choice((0, 8, 26, 2**31, 2**32 - 1)),
        )
        for _ in range(rng.choice((1, 5, 60)))
    )
    count = rng.choice((len(entries) // 12, 65_535))
    start = struct.pack(order + "HHI", *((42, 0, 0)))[:2] + struct.pack(order + "I", rng.choice((8, 8, 0, 2**32 - 1)))
    block = (b"II" if order == "<" else b"MM") + start + struct.pack(order + "H", count) + entries
    block += struct.pack(order + "I", rng.choice((0, 8, 2**32 - 1)))
    if rng.random() < 0.5:
        return with_segment(rng, segment(0xE1, b"Exif\0\0" + block))
    first, *rest = chunks_of(sound()["png"])
    return PNG_SIGNATURE + first + chunk(b"eXIf", block) + b"".join(rest)


def icc(rng: random.Random) -> bytes:
    """Profiles in pieces that are missing, too many, or nonsense."""
    pieces = rng.choice((1, 3, 255))
    kept = rng.sample(range(pieces + 1), rng.randint(1, pieces))
    size = rng.choice((0, 10, 128, 2000))
    numbered = [segment(0xE2, b"ICC_PROFILE\0" + bytes([n, pieces]) + rng.randbytes(size)) for n in kept]
    return with_segment(rng, b"".join(numbered))


def packets(rng: random.Random) -> bytes:
    """XMP, C2PA and Photoshop blocks that are not what they say."""
    xmp = b"http://ns.adobe.com/xap/1.0/\0"
    deep = b"<a>" * 8000
    block = rng.choice(
        (
            segment(0xE1, xmp + laughs()),
            segment(0xE1, xmp + deep),
            segment(0xE1, xmp + rng.randbytes(500)),
            segment(0xEB, b"JP\0\1" + struct.pack(">III", 1, 2**31 - 1, 0x6A756D62) + rng.randbytes(200)),
            segment(0xEB, b"JP\0\1" + struct.pack(">II4s", 1, 8 + rng.randrange(200), b"jumb") + rng.randbytes(200)),
            segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 2**31 - 1)),
            segment(0xE2, b"MPF\0" + rng.randbytes(80)),
        )
    )
    return with_segment(rng, block * rng.choice((1, 1, 10)))


def mpo(rng: random.Random) -> bytes:
    """Several pictures in one file, whose index points anywhere."""
    data = bytearray(sound()["mpo"])
    place = data.index(b"MPF\0")
    for _ in range(rng.randint(1, 6)):
        struct.pack_into(">I", data, place + 4 + rng.randrange(76), rng.choice((0, 1, 2**31, 2**32 - 1)))
    return bytes(data)
