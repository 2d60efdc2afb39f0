"""The structure of JPEG files (ITU-T T.81): their segments and scans, up to the end of the primary picture.

A file may hold more behind it: further pictures (CIPA DC-007), a video, anything. Nothing of that is looked at.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.errors import BrokenImageError, UnsupportedImageError
from service.imaging.codecs import metadata
from service.imaging.codecs.colour import LARGEST_PROFILE
from service.imaging.codecs.photo import Coding
from service.imaging.codecs.prepared import Prepared, check_size

SIGNATURE, END = b"\xff\xd8\xff", b"\xff\xd9"
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ACCEPTED_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended and progressive, all of Huffman codes
_APPLICATION = range(0xE0, 0xF0)
_COMMENT = 0xFE
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length

# What stands between segments is skipped, as libjpeg does. Patterns that begin with one certain byte search 2 GB/s.
_MARKER = re.compile(rb"\xff[^\x00\xff]", re.DOTALL)
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)

_MOST_SEGMENTS = 5000
_MOST_SCANS = 100
# Each scan passes over its components once more: 20 to 60 ns a block of 8 x 8 samples, whatever its bytes. The
# progressive scans of libjpeg pass 14 times over each component of a picture that is not subsampled.
MOST_SCANNED_BLOCKS = 16_000_000

# Of a file that ends early, the share that may be missing: its last rows. Viewers show it as well.
_MOST_MISSING = 1 / 16

_END_OF_DENSITIES = 16  # in a segment of JFIF
_JFIF, _EXIF, _XMP, _PROFILE = b"JFIF\0", metadata.PREFIX, b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_IDENTIFIERS = {0xE0: (_JFIF,), 0xE1: (_EXIF, _XMP), 0xE2: (_PROFILE,), 0xEE: (b"Adobe",)}


@dataclass(frozen=True)
class Segment:
    """From its marker to its end; that of a scan includes its entropy-coded data."""

    marker: int
    start: int
    end: int


@dataclass(frozen=True)
class Component:
    """One of a picture's channels: its sampling factors across and down, and the number of its quantisation table."""

    across: int
    down: int
    table: int


@dataclass(frozen=True)
class Jpeg:
    """A file's segments, its frame's width and height and components, how many blocks its scans pass over, and whether
    its end marker is there.
    """

    data: bytes
    segments: list[Segment]
    size: tuple[int, int]
    components: dict[int, Component]
    scanned_blocks: int
    complete: bool

    @property
    def sampling(self) -> tuple[int, int]:
        """The largest sampling factors, across and down."""
        return _most(self.components)

    def coding(self, image: Image.Image) -> Coding:
        """How the file is encoded, of which Pillow has read the quantisation tables.

        Of samplings that Pillow does not write it is the next finer one.
        """
        light, *chroma = self.components.values()
        numbers = [light.table, *(each.table for each in chroma[:1])]
        if any(number not in image.quantization for number in numbers):
            return Coding()
        tables = tuple(tuple(image.quantization[number]) for number in dict.fromkeys(numbers))
        if len(self.components) != 3:
            return Coding(tables[:1], 0)
        rgb = "jfif" not in image.info and (
            image.info.get("adobe_transform") == 0 or (*self.components,) == tuple(b"RGB")
        )
        across, down = (min(getattr(light, way) / getattr(each, way) for each in chroma) for way in ("across", "down"))
        return Coding(tables, 0 if rgb or across < 2 else 1 if down < 2 else 2, rgb)


def parse(data: bytes, max_pixels: int, most_blocks: int = MOST_SCANNED_BLOCKS) -> Jpeg:
    """Read a file's structure; nothing is decoded.

    Raises BrokenImageError where it has no frame before its scans, more than one, or scans that pass over more blocks
    than those of any sound picture; UnsupportedImageError for arithmetic and lossless coding; ImageTooLargeError.
    """
    segments: list[Segment] = []
    components: dict[int, Component] = {}
    size, scans, blocks, position = (0, 0), 0, 0, 2
    while found := _MARKER.search(data, position):
        marker, start = data[found.end() - 1], found.end() - 2
        if marker == _END:
            return Jpeg(data, segments, size, components, blocks, complete=True)
        if marker in _ALONE:
            position = found.end()
            continue
        end = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
        if marker == _START or end < found.end() + 2:
            raise BrokenImageError("the JPEG image is corrupt")
        if end > len(data):
            break
        payload = data[found.end() + 2 : end]
        if marker in _FRAMES:
            if components:
                raise BrokenImageError("the JPEG image has two frames")
            size, components = _frame(marker, payload)
            check_size(*size, max_pixels)
        elif marker == _SCAN:
            scans += 1
            blocks += _scanned_blocks(payload, size, components)
            if scans > _MOST_SCANS:
                raise BrokenImageError(f"the JPEG image has more than {_MOST_SCANS} scans")
            if blocks > most_blocks:
                raise BrokenImageError("the JPEG image has too many scans for its size")
            ended = _END_OF_SCAN.search(data, end)
            end = ended.start() if ended else len(data)
        segments.append(Segment(marker, start, end))
        if len(segments) > _MOST_SEGMENTS:
            raise BrokenImageError(f"the JPEG image has more than {_MOST_SEGMENTS} segments")
        position = end
    if not scans:
        raise BrokenImageError("the JPEG image's header is truncated or corrupt")
    return Jpeg(data, segments, size, components, blocks, complete=False)


def _frame(marker: int, payload: bytes) -> tuple[tuple[int, int], dict[int, Component]]:
    """Width and height, and the components."""
    if marker not in _ACCEPTED_FRAMES:
        raise UnsupportedImageError("the JPEG image is of a kind that is not accepted: arithmetic, lossless or nested")
    if len(payload) < 6 or len(payload) != 6 + 3 * payload[5]:
        raise BrokenImageError("the JPEG image's header is truncated or corrupt")
    height, width = (int.from_bytes(payload[place : place + 2], "big") for place in (1, 3))
    components = {}
    for identifier, factors, table in zip(payload[6::3], payload[7::3], payload[8::3], strict=True):
        components[identifier] = Component(factors >> 4, factors & 15, table)
    if any(not 1 <= factor <= 4 for each in components.values() for factor in (each.across, each.down)):
        raise BrokenImageError("the JPEG image's header is truncated or corrupt")
    return (width, height), components


def _most(components: dict[int, Component]) -> tuple[int, int]:
    return max(each.across for each in components.values()), max(each.down for each in components.values())


def _scanned_blocks(payload: bytes, size: tuple[int, int], components: dict[int, Component]) -> int:
    """The blocks of 8 x 8 samples that a scan passes over."""
    if not components or not payload or len(payload) < 1 + 2 * payload[0]:
        raise BrokenImageError("the JPEG image's header is truncated or corrupt")
    most_across, most_down = _most(components)
    scanned = (components.get(identifier) for identifier in payload[1 : 1 + 2 * payload[0] : 2])
    return sum(
        -(-size[0] * each.across // (8 * most_across)) * -(-size[1] * each.down // (8 * most_down))
        for each in scanned
        if each is not None
    )


def prepared(data: bytes, max_pixels: int) -> Prepared:
    """The primary picture with its profile, its EXIF data and its XMP packet. Raises as `parse`."""
    found = parse(data, max_pixels)
    if not found.complete and found.scanned_blocks > MOST_SCANNED_BLOCKS // 2:  # it may be decoded twice
        raise BrokenImageError("the JPEG image is truncated")
    kept = b"".join([data[:2], *(data[each.start : each.end] for each in _kept(found)), END])
    if found.complete:
        return Prepared(kept, coding=found.coding)
    return Prepared(kept, finish=lambda image: _with_enough(image, found, kept), coding=found.coding)


def marked(data: bytes, packet: bytes, with_exif: bool) -> bytes:
    """The primary picture's file with another XMP packet, and without metadata but orientation and resolution.

    Its EXIF data are left as they are `with_exif`. No pixel changes.
    """
    found = parse(data, Image.MAX_IMAGE_PIXELS * 2)
    segments = [(_kind(found, each), data[each.start : each.end]) for each in _kept(found)]
    exif = next((segment[10:] for kind, segment in segments if kind == _EXIF), b"")
    exif = exif if with_exif else metadata.essential(exif)
    added = [_segment(0xE1, prefix + block) for prefix, block in ((_EXIF, exif), (_XMP, packet)) if block]
    # Version, unit and densities; a thumbnail may follow them.
    first = [_segment(0xE0, segment[4:_END_OF_DENSITIES] + bytes(2)) for kind, segment in segments if kind == _JFIF]
    rest = [segment for kind, segment in segments if kind not in (_JFIF, _EXIF, _XMP)]
    return b"".join([data[:2], *first, *added, *rest, END])


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def _kept(jpeg: Jpeg) -> Iterator[Segment]:
    """The segments that decoding needs; of application data the first of each kind, and a profile of bearable size."""
    seen: set[bytes] = set()
    profile = [each for each in jpeg.segments if _kind(jpeg, each) == _PROFILE]
    too_large = sum(each.end - each.start for each in profile) > LARGEST_PROFILE
    for segment in jpeg.segments:
        kind = _kind(jpeg, segment)
        if kind is None or (kind == _PROFILE and not too_large):
            yield segment
        elif kind and kind != _PROFILE and kind not in seen:
            seen.add(kind)
            yield segment


def _kind(jpeg: Jpeg, segment: Segment) -> bytes | None:
    """What application data begin with, empty where they are of no use; None for all other segments."""
    if segment.marker not in _APPLICATION and segment.marker != _COMMENT:
        return None
    identifiers = _IDENTIFIERS.get(segment.marker, ())
    return next((each for each in identifiers if jpeg.data.startswith(each, segment.start + 4)), b"")


def _with_enough(image: Image.Image, jpeg: Jpeg, kept: bytes) -> Image.Image:
    """A picture that was decoded from a file without its end, with what is missing in grey.

    Raises BrokenImageError where more is missing than its last rows.
    """
    if _enough(image, jpeg):
        return image
    # Or is it grey there? Without an end marker libjpeg stops where the data do, and a few bytes before that.
    whole = Image.open(io.BytesIO(kept[:-2] + bytes(8)), formats=["JPEG"])
    if whole.size != image.size:
        whole.draft(None, image.size)
    with contextlib.suppress(OSError):
        whole.load()
    whole.tile = []
    if not whole.crop((0, whole.height - 1, whole.width, whole.height)).getbbox():
        raise BrokenImageError("the JPEG image is truncated")
    return whole


def _enough(image: Image.Image, jpeg: Jpeg) -> bool:
    """Whether at most _MOST_MISSING of the picture, at its end, has the grey of what was never decoded."""
    across, down = (8 * factor for factor in jpeg.sampling) if len(jpeg.components) > 1 else (8, 8)
    scale = max(1, round(jpeg.size[0] / image.width))
    across, down = max(1, across // scale), max(1, down // scale)
    starts = np.arange(0, image.width, across)
    tops = range(0, image.height, down)
    missing, allowed = 0, int(_MOST_MISSING * len(starts) * len(tops))
    for top in reversed(tops):
        strip = np.asarray(image.crop((0, top, image.width, min(top + down, image.height))))
        # Colours are interpolated across the edges of what was decoded.
        inside = strip[1:] if len(strip) > 2 else strip
        grey = (abs(inside.astype(np.int16) - 128) <= 1).reshape(len(inside), image.width, -1).all(axis=(0, 2))
        if across > 4:
            grey[starts] = grey[np.minimum(starts + across, image.width) - 1] = True
        units = np.logical_and.reduceat(grey, starts)[::-1]
        if not units.all():
            return missing + int(np.argmin(units)) <= allowed
        missing += len(units)
        if missing > allowed:
            return False
    return False
