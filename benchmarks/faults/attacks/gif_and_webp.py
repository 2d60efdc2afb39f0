"""Attacks on GIF and WebP."""

from __future__ import annotations

import random
import struct
from functools import cache

from PIL import Image

from benchmarks.faults.attacks.samples import any_file, saved, sound


def gif_screens(rng: random.Random) -> bytes:
    """Screens and frames of sizes that do not go together."""
    data = bytearray(any_file(rng, "gif"))
    sides = (0, 1, 177, 5000, 65_535)
    struct.pack_into("<HH", data, 6, rng.choice(sides), rng.choice(sides))
    if rng.random() < 0.6:
        place = data.index(b"\x2c\0\0\0\0")
        struct.pack_into("<HHHH", data, place + 1, *(rng.choice(sides) for _ in range(4)))
    return bytes(data)


def gif_frames(rng: random.Random) -> bytes:
    """Frames, comments and codes without end."""
    data = sound()["gif-animated"]
    start = data.index(b"\x21\xf9")
    blocks = (data[start:-1], b"\x21\xfe\xff" + bytes(255), b"\x21\xff\x0bXMP DataXMP" + rng.randbytes(300), b"\x2c")
    return data[:start] + rng.choice(blocks) * rng.choice((1, 50)) + data[start:] + rng.choice((b"", b";"))


def webp_chunks(rng: random.Random) -> bytes:
    """RIFF chunks in another order, with other lengths, in another number."""
    data = any_file(rng, "webp")
    found, place = [], 12
    while place + 8 <= len(data):
        length = struct.unpack_from("<I", data, place + 4)[0]
        found.append(data[place : place + 8 + length + length % 2])
        place += 8 + length + length % 2
    match rng.randrange(4):
        case 0:
            rng.shuffle(found)
        case 1:
            found.insert(rng.randrange(len(found) + 1), rng.choice(found))
        case 2:
            which = rng.randrange(len(found))
            length = struct.pack("<I", rng.choice((0, 1, 2**31, 2**32 - 1)))
            found[which] = found[which][:4] + length + found[which][8:]
        case 3:
            found.insert(0, b"VP8X" + struct.pack("<II", 10, rng.randrange(256)) + rng.choice((b"\xff", b"\0")) * 6)
    body = b"WEBP" + b"".join(found)
    return b"RIFF" + struct.pack("<I", rng.choice((len(body), 0, 2**32 - 1))) + body


@cache
def _wide_webp() -> bytes:
    return saved(Image.new("L", (16_383, 1900)), "WEBP", lossless=True, quality=0, method=0)


def webp_bomb(rng: random.Random) -> bytes:
    """Nearly as many pixels as are accepted, in a few hundred bytes; whole, or not quite."""
    data = bytearray(_wide_webp())
    if rng.random() < 0.9:
        data[rng.randrange(20, len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)
