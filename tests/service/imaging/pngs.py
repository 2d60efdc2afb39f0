"""PNG files put together by hand, of depths and with chunks that Pillow does not write."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, payload: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + payload) if checksum is None else checksum
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", checksum)


def header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def png(levels: np.ndarray, depth: int = 8, colour: int = 2, *before: bytes) -> bytes:
    """Levels [H, W, C] of that depth and colour type, with chunks `before` them."""
    height, width, channels = levels.shape
    if depth == 16:
        rows = levels.astype(">u2").tobytes()
        stride = 2 * width * channels
    else:
        bits = np.unpackbits(levels.reshape(height, -1, 1).astype(np.uint8), axis=2)[:, :, 8 - depth :]
        packed = np.packbits(bits.reshape(height, -1), axis=1)
        rows, stride = packed.tobytes(), packed.shape[1]
    lines = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride))
    parts = [SIGNATURE, header(width, height, depth, colour), *before]
    return b"".join([*parts, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")])


def with_chunks(data: bytes, *chunks: bytes) -> bytes:
    """The file with chunks after its header."""
    return data[:33] + b"".join(chunks) + data[33:]
