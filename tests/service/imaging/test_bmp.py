"""BMP: what is read, and what is refused before it costs anything."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from service.errors import ImageTooLargeError, UnsupportedImageError
from service.imaging import codecs
from tests.service.fakes import encoded
from tests.service.imaging.samples import LIMIT, PICTURE, PIXELS, decoded


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
def test_bmp_is_read_pixel_for_pixel(mode: str):
    image = PICTURE.quantize(20) if mode == "P" else PICTURE.convert(mode)
    assert np.array_equal(decoded(encoded(image, "BMP")), np.asarray(image.convert("RGB")))
    assert codecs.decode_photo(encoded(image, "BMP", dpi=(300, 300)), LIMIT).dpi == pytest.approx((300, 300), abs=0.1)


def test_a_bmp_with_transparency_that_is_all_zero_is_opaque():
    for alpha, seen in ((0, None), (77, 77)):
        image = PICTURE.copy()
        image.putalpha(alpha)
        header = struct.pack("<IiiHHIIiiII", 56, 30, 40, 1, 32, 3, 0, 0, 0, 0, 0)
        header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        pixels = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGRA")
        data = b"BM" + struct.pack("<IIIi", 0, 0, 14 + len(header), 0)[:12] + header + pixels
        photo = codecs.decode_photo(data, LIMIT)
        assert np.array_equal(photo.image, PIXELS)
        assert (photo.alpha and photo.alpha.getpixel((0, 0))) == seen


def run_lengths(width: int, height: int, data: bytes) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 2, 0)
    palette = bytes([0, 0, 0, 0, 255, 0, 0, 0])
    return b"BM" + struct.pack("<III", 0, 0, 14 + len(header) + len(palette)) + header + palette + data


def test_run_lengths_are_read():
    found = decoded(run_lengths(4, 2, b"\4\1\0\0\2\1\2\0\0\1"))
    assert found[..., 2].tolist() == [[255, 255, 0, 0], [255] * 4]


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    "data", [run_lengths(1001, 1000, b"\0\1"), run_lengths(4, 2, b"\1\1" * 600_000)], ids=["pixels", "bytes"]
)
def test_run_lengths_that_take_long_are_unsupported(data: bytes):
    with pytest.raises(UnsupportedImageError, match="run lengths"):
        codecs.decode(data, 10 * LIMIT)


@pytest.mark.parametrize("size", [(2000, 2000), (2000, -2000), (2**31 - 1, 1)])
def test_a_bmp_that_is_too_large_is_told_by_its_header(size: tuple[int, int]):
    with pytest.raises(ImageTooLargeError):
        codecs.decode(run_lengths(*size, b""), LIMIT)


def test_text_that_begins_like_a_bmp_is_none():
    with pytest.raises(UnsupportedImageError):
        codecs.decode(b"BMW builds cars and motorcycles.", LIMIT)
