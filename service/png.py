"""PNG written fast (RFC 2083): one filter for every row, computed for all of them at once, and ISA-L's deflate.

Pillow tries five filters on each row and takes seven times as long for a 64-pixel face, to save 3% of its bytes. A
served face is read once; the time to write it is paid each time.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from isal import isal_zlib

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {3: 2, 4: 6}  # by channels: truecolour, truecolour with alpha
_AVERAGE = 3  # the filter that left the fewest bytes of those that need no decision for each pixel
_LEVEL = 1
_BAND = 1 << 20  # bytes filtered at a time, so that large pictures take no second copy


def encode(pixels: np.ndarray, xmp: bytes = b"", profile: bytes | None = None) -> bytes:
    """uint8 [H, W, 3] RGB or [H, W, 4] RGBA as a PNG file, with an XMP packet and an ICC profile if there are any."""
    height, width, channels = pixels.shape
    if pixels.dtype != np.uint8 or channels not in _COLOUR_TYPES:
        raise ValueError(f"pixels are {pixels.dtype}{list(pixels.shape)}; they must be uint8 [H, W, 3] or [H, W, 4]")
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    parts = [_SIGNATURE, _chunk(b"IHDR", header)]
    if profile:
        parts.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    if xmp:
        parts.append(_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    rows = pixels.reshape(height, width * channels)
    parts += [_chunk(b"IDAT", data) for data in _deflated(rows, channels)]
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _deflated(rows: np.ndarray, channels: int) -> list[bytes]:
    """One zlib stream of the filtered rows uint8 [H, W * C], in pieces."""
    step = max(1, _BAND // rows.shape[1])
    if len(rows) <= step:
        return [isal_zlib.compress(_filtered(rows, None, channels), _LEVEL)]
    stream = isal_zlib.compressobj(_LEVEL)
    pieces = []
    for start in range(0, len(rows), step):
        above = rows[start - 1] if start else None
        pieces.append(stream.compress(_filtered(rows[start : start + step], above, channels)))
    pieces.append(stream.flush())
    return [piece for piece in pieces if piece]


def _filtered(rows: np.ndarray, above: np.ndarray | None, channels: int) -> np.ndarray:
    """Each row's filter type and its residuals, uint8 [H, 1 + W * C], for rows below `above`."""
    upper = np.zeros_like(rows)
    upper[1:] = rows[:-1]
    if above is not None:
        upper[0] = above
    left = np.zeros_like(rows)
    left[:, channels:] = rows[:, :-channels]
    filtered = np.empty((len(rows), 1 + rows.shape[1]), dtype=np.uint8)
    filtered[:, 0] = _AVERAGE
    # floor((left + upper) / 2) within eight bits.
    np.subtract(rows, (left & upper) + ((left ^ upper) >> 1), out=filtered[:, 1:])
    return filtered


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join([struct.pack(">I", len(data)), kind, data, struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))])
