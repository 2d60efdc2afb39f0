"""Damage that knows nothing of formats."""

from __future__ import annotations

import random
import struct

from benchmarks.faults.attacks.samples import PNG_SIGNATURE, any_file


def flips(rng: random.Random) -> bytes:
    data = bytearray(any_file(rng))
    for _ in range(rng.choice((1, 3, 30, 300))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def header_flips(rng: random.Random) -> bytes:
    data = bytearray(any_file(rng))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(min(64, len(data)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(data)


def truncation(rng: random.Random) -> bytes:
    data = any_file(rng)
    return data[: rng.choice((rng.randrange(64), rng.randrange(len(data)), len(data) - 1))]


def removal(rng: random.Random) -> bytes:
    data = any_file(rng)
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 400) :]


def insertion(rng: random.Random) -> bytes:
    data = any_file(rng)
    start = rng.randrange(len(data))
    filler = rng.choice((bytes(rng.randint(1, 400)), rng.randbytes(rng.randint(1, 400)), b"\xff" * 64))
    return data[:start] + filler + data[start:]


def splice(rng: random.Random) -> bytes:
    one, other = any_file(rng), any_file(rng)
    return one[: rng.randrange(len(one))] + other[rng.randrange(len(other)) :]


def large_numbers(rng: random.Random) -> bytes:
    """Numbers that overflow, somewhere."""
    data = bytearray(any_file(rng))
    for _ in range(rng.randint(1, 5)):
        number = rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFF, 0))
        place = rng.randrange(len(data) - 4)
        struct.pack_into(rng.choice("<>") + "I", data, place, number)
    return bytes(data)


def noise(rng: random.Random) -> bytes:
    signature = rng.choice((b"", PNG_SIGNATURE, b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBPVP8 ", b"GIF89a"))
    return signature + rng.randbytes(rng.choice((0, 1, 10, 1000, 20000)))
