"""JPEG files taken apart and put together in ways that no encoder would."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from PIL import Image

from tests.service.fakes import encoded

END = b"\xff\xd9"
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


@dataclass(frozen=True)
class Parts:
    """What stands before the first tables of a scan, and each scan with its tables."""

    head: bytes
    scans: list[bytes]

    def whole(self, *more: bytes) -> bytes:
        """The file, with further scans."""
        return b"".join([self.head, *self.scans, *more, END])


def parts(data: bytes) -> Parts:
    """A sound file's. Tables of Huffman codes belong to the scan that they precede."""
    head, scans, position, started = b"", [], 2, None
    while data[position + 1] != END[1]:
        marker, begun = data[position + 1], position
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if started is None and marker in (0xC4, 0xDA):
            head = head or data[:begun]
            started = begun
        if marker == 0xDA:
            position += _END_OF_SCAN.search(data[position:]).start()
            scans.append(data[started:position])
            started = None
    return Parts(head, scans)


def progressive(size: tuple[int, int] = (64, 48), mode: str = "RGB", subsampling: int = 0) -> Parts:
    """A flat picture's ten scans, or six of a grey one; the last refines the first component."""
    options = {"subsampling": subsampling} if mode == "RGB" else {}
    return parts(encoded(Image.new(mode, size), "JPEG", progressive=True, **options))


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_segments(data: bytes, *segments: bytes) -> bytes:
    """The file with segments at its start."""
    return data[:2] + b"".join(segments) + data[2:]


def without(data: bytes, marker: int) -> bytes:
    """The file without the segments of that marker before its first scan."""
    kept, position = [data[:2]], 2
    while data[position + 1] != 0xDA:
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] != marker:
            kept.append(data[position:end])
        position = end
    return b"".join([*kept, data[position:]])


def of_size(data: bytes, width: int, height: int) -> bytes:
    """The file with a frame that says it has another size."""
    (frame,) = re.finditer(rb"\xff[\xc0-\xc2]..\x08", data, re.DOTALL)
    return data[: frame.end()] + struct.pack(">HH", height, width) + data[frame.end() + 4 :]
