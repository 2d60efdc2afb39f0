"""Sound files of every kind, which attacks damage."""

from __future__ import annotations

import io
import random
from functools import cache

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

SIZE = (178, 218)  # of a framed face, so that what is still a picture goes all the way


@cache
def sound() -> dict[str, bytes]:
    """Files that are in order, of every kind that is accepted and of some variants, by name."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (SIZE[1] // 12, SIZE[0] // 12, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
    other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 3, "a camera"  # upside down
    exif.get_ifd(0x8825)[1] = "N"
    alpha = picture.copy()
    alpha.putalpha(picture.convert("L"))
    deep = Image.fromarray(np.asarray(picture.convert("L"), dtype=np.uint16) << 8)
    frames = {"save_all": True, "append_images": [other, picture], "duration": 50}
    return {
        "png": saved(picture, "PNG", exif=exif),
        "png-rgba": saved(alpha, "PNG"),
        "png-palette": saved(picture.quantize(32), "PNG", transparency=3),
        "png-16": saved(deep, "PNG"),
        "png-1": saved(picture.convert("1"), "PNG"),
        "apng": saved(picture, "PNG", **frames),
        "jpeg": saved(picture, "JPEG", exif=exif, icc_profile=b"\0" * 128 + b"not a profile"),
        "jpeg-progressive": saved(picture, "JPEG", progressive=True, subsampling=2),
        "jpeg-cmyk": saved(picture.convert("CMYK"), "JPEG"),
        "jpeg-grey": saved(picture.convert("L"), "JPEG"),
        "mpo": saved(picture, "MPO", save_all=True, append_images=[other]),
        "webp": saved(picture, "WEBP", quality=60, exif=exif),
        "webp-lossless": saved(alpha, "WEBP", lossless=True),
        "webp-animated": saved(picture, "WEBP", **frames),
        "gif": saved(picture, "GIF"),
        "gif-animated": saved(picture, "GIF", **frames, disposal=2, transparency=0),
        "gif-interlaced": saved(picture.quantize(64), "GIF", interlace=1),
        "tiff": saved(picture, "TIFF"),
        "tiff-lzw": saved(alpha, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": saved(picture, "TIFF", compression="jpeg"),
        "tiff-cmyk": saved(picture.convert("CMYK"), "TIFF", compression="packbits"),
        "bmp": saved(picture.quantize(64), "BMP"),
        "avif": saved(alpha, "AVIF", speed=10),
        "avif-animated": saved(picture, "AVIF", speed=10, **frames),
    }


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def any_file(rng: random.Random, prefix: str = "") -> bytes:
    return sound()[rng.choice([name for name in sound() if name.startswith(prefix)])]


def laughs() -> bytes:
    entities = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12))
    return b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">' + entities + b"]><x>&l11;</x>"
