"""A fast PNG encoder (RFC 2083): the same filter for all rows, in one operation, and deflate by ISA-L.

Pillow tries five filters on each row. For a 64-pixel face it takes eight times as long and saves 6% of the bytes; for
larger pictures it saves nothing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from isal import isal_zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels: grey, grey with alpha, truecolour, truecolour with alpha
_UP = 2  # a filter of one subtraction; the average filter takes seven operations and saves 5% of the bytes
_LEVEL = 1
_METRES_PER_INCH = 0.0254
_BAND = 1 << 20  # bytes that are filtered at once, so that large pictures are not copied as a whole


def encode(pixels: np.ndarray, xmp: bytes = b"", profile: bytes | None = None) -> bytes:
    """The PNG file of uint8 [H, W, C], with an XMP packet and an ICC profile if they are given.

    C is 1 for grey, 2 for grey with alpha, 3 for RGB and 4 for RGBA; [H, W] is grey. Raises ValueError for others.
    """
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    height, width, channels = pixels.shape
    if pixels.dtype != np.uint8 or channels not in _COLOUR_TYPES:
        raise ValueError(f"pixels are {pixels.dtype}{list(pixels.shape)}; they must be uint8 [H, W, 1 to 4]")
    return encode_bands(lambda top, bottom: pixels[top:bottom], (width, height), channels, xmp, profile)


def encode_bands(
    rows: Callable[[int, int], np.ndarray],
    size: tuple[int, int],
    channels: int,
    xmp: bytes = b"",
    profile: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    exif: bytes = b"",
) -> bytes:
    """As `encode`, of a picture of width and height `size`, whose `rows` from one up to another are made when needed.

    `exif` is a block of EXIF data, which begins with the header of a TIFF file.
    """
    width, height = size
    parts = [_SIGNATURE, chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0))]
    if profile:
        parts.append(chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    if dpi:
        parts.append(chunk(b"pHYs", struct.pack(">IIB", *(round(value / _METRES_PER_INCH) for value in dpi), 1)))
    if exif:
        parts.append(chunk(b"eXIf", exif))
    if xmp:
        parts.append(packet_chunk(xmp))
    step = max(1, _BAND // (width * channels))
    bands = (rows(top, min(top + step, height)).reshape(-1, width * channels) for top in range(0, height, step))
    parts.extend(chunk(b"IDAT", data) for data in _deflated(bands, step < height))
    return b"".join([*parts, chunk(b"IEND", b"")])


def packet_chunk(xmp: bytes) -> bytes:
    """The chunk of an XMP packet."""
    return chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)


def _deflated(bands: Iterable[np.ndarray], several: bool) -> Iterator[bytes]:
    """One zlib stream of the filtered bands, each uint8 [H, W * C], in pieces."""
    if not several:
        yield isal_zlib.compress(_filtered(next(iter(bands)), None), _LEVEL)
        return
    stream, above = isal_zlib.compressobj(_LEVEL), None
    for band in bands:
        if piece := stream.compress(_filtered(band, above)):
            yield piece
        above = band[-1]
    yield stream.flush()


def _filtered(rows: np.ndarray, above: np.ndarray | None) -> np.ndarray:
    """uint8 [H, W * C] filtered, uint8 [H, 1 + W * C]: the filter type, then differences to the row above."""
    filtered = np.empty((len(rows), 1 + rows.shape[1]), dtype=np.uint8)
    filtered[:, 0] = _UP
    # The row above the first counts as zeros.
    filtered[0, 1:] = rows[0] if above is None else rows[0] - above
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return filtered


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return b"".join([struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))])
