"""Pictures of several formats that tests decode."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from service.imaging import codecs
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
