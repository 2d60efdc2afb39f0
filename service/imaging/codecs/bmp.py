"""BMP files: pixels as they are, or run lengths, which Pillow decodes one by one."""

from __future__ import annotations

from PIL import Image

from service.errors import UnsupportedImageError
from service.imaging.codecs.prepared import Prepared, check_size

_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the versions of the header
_RUN_LENGTHS = (1, 2)
_LARGEST_RUN_LENGTH = 1_000_000  # pixels, and bytes


def is_bmp(data: bytes) -> bool:
    """Whether a file begins like one; two letters alone say little."""
    return data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _HEADERS


def prepared(data: bytes, max_pixels: int) -> Prepared:
    """The file as it is. Raises ImageTooLargeError, and UnsupportedImageError for run lengths of a large picture."""
    wide = int.from_bytes(data[14:18], "little") > 12
    width, height = (_number(data, place, wide) for place in ((18, 22) if wide else (18, 20)))
    check_size(width, height, max_pixels)
    compressed = wide and int.from_bytes(data[30:34], "little") in _RUN_LENGTHS
    if compressed and max(width * height, len(data)) > _LARGEST_RUN_LENGTH:
        raise UnsupportedImageError(
            f"a BMP image of run lengths may have {_LARGEST_RUN_LENGTH} pixels and bytes; send it without, or as PNG"
        )
    return Prepared(data, finish=_opaque)


def _number(data: bytes, place: int, wide: bool) -> int:
    """Rows from the top down are a negative number of them."""
    if wide:
        return abs(int.from_bytes(data[place : place + 4], "little", signed=True))
    return int.from_bytes(data[place : place + 2], "little")


def _opaque(image: Image.Image) -> Image.Image:
    """Files without transparency may have zeros in its place, which show everywhere else as opaque."""
    if image.mode == "RGBA" and image.getextrema()[3] == (0, 0):
        info, image = image.info, image.convert("RGB")
        image.info = info
    return image
