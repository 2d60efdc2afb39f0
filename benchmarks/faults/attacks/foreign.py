"""Other files, as they are and in disguise."""

from __future__ import annotations

import gzip
import io
import random
import struct
import zipfile
from functools import cache

from PIL import Image, TiffImagePlugin

from benchmarks.faults.attacks.jpeg import segment, with_segment
from benchmarks.faults.attacks.samples import any_file, saved


@cache
def _foreign() -> dict[str, bytes]:
    picture = Image.new("RGB", (64, 64), "red")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(zipfile.ZipInfo("../../etc/passwd"), bytes(1_000_000), zipfile.ZIP_DEFLATED)
    tiff = TiffImagePlugin.ImageFileDirectory_v2()
    tiff[270] = "a" * 1000
    return {
        "tiff": saved(picture, "TIFF", tiffinfo=tiff),
        "tiff-lzw": saved(picture, "TIFF", compression="tiff_lzw"),
        "bmp": saved(picture, "BMP"),
        "ico": saved(picture, "ICO"),
        "ppm": b"P6 99999 99999 255\n" + bytes(100),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%id) (r) file\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "html": b"<!DOCTYPE html><script>alert(1)</script>",
        "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
        "zip": archive.getvalue(),
        "gzip": gzip.compress(bytes(10_000_000), mtime=0),
        "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(100),
        "jpeg2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        "psd": b"8BPS\0\1" + bytes(100),
        "elf": b"\x7fELF" + bytes(100),
        "text": "a face".encode("utf-16"),
    }


def foreign(rng: random.Random) -> bytes:
    """Another kind of file; TIFF with offsets that go anywhere."""
    data = bytearray(_foreign()[rng.choice(sorted(_foreign()))])
    if rng.random() < 0.5 and len(data) > 12:
        struct.pack_into("<I", data, rng.randrange(len(data) - 4), rng.choice((0, 8, 2**31, 2**32 - 1)))
    return bytes(data)


def polyglot(rng: random.Random) -> bytes:
    """Two files in one: another behind, before, or inside a picture."""
    picture, other = any_file(rng), _foreign()[rng.choice(sorted(_foreign()))]
    match rng.randrange(3):
        case 0:
            return picture + other
        case 1:
            return other[:1024] + picture
        case _:
            return with_segment(rng, segment(0xFE, other[:60_000]))


def disguise(rng: random.Random) -> bytes:
    """Another kind of file behind a picture's first bytes."""
    return any_file(rng)[: rng.choice((4, 8, 12, 33))] + _foreign()[rng.choice(sorted(_foreign()))]
