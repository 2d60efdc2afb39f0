"""The chunks of PNG files (W3C PNG, third edition): what decoding needs, and of the rest no more than is of use.

Ancillary chunks that are broken or too large are ignored. Of an animation only the default image is left.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from service.errors import BrokenImageError
from service.imaging import png
from service.imaging.codecs import metadata
from service.imaging.codecs.colour import LARGEST_PROFILE, in_strips
from service.imaging.codecs.prepared import Prepared, as_it_is, check_size

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = (b"IHDR", b"PLTE", b"pHYs", b"IDAT", b"IEND")
_KEPT_UNCHANGED = (
    *(b"IHDR", b"cHRM", b"cICP", b"gAMA", b"iCCP", b"mDCV", b"cLLI", b"sBIT", b"sRGB", b"PLTE", b"bKGD", b"hIST"),
    *(b"tRNS", b"pHYs", b"IDAT"),
)
_GREY, _TRUECOLOUR, _PALETTE, _GREY_WITH_ALPHA, _ALPHA = 0, 2, 3, 4, 6  # colour types
_PACKET = b"XML:com.adobe.xmp\0"
_LARGEST_METADATA = 1_000_000  # bytes
# Each costs an encoder 12 bytes; those of libpng hold 8 kB.
_MOST_CHUNKS = 50_000


def chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each chunk, its length and its checksum included; the last may be cut.

    Raises BrokenImageError where there are too many.
    """
    position = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        kind = data[position + 4 : position + 8]
        if len(kind) < 4 or not kind.isalpha():
            return
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        yield kind, position, min(end, len(data))
        if kind == b"IEND" or end > len(data):
            return
        position = end
    raise BrokenImageError(f"the PNG image has more than {_MOST_CHUNKS} chunks")


def prepared(data: bytes, max_pixels: int) -> Prepared:
    """The picture with its profile, its EXIF data and its XMP packet.

    Raises BrokenImageError for a file that does not begin with a header, and ImageTooLargeError.
    """
    first = next(chunks(data), None)
    if first is None or first[0] != b"IHDR" or first[2] != 33:
        raise BrokenImageError("the image's header is truncated or corrupt")
    width, height = (int.from_bytes(data[place : place + 4], "big") for place in (16, 20))
    depth, colour = data[24], data[25]
    # Each of these takes about twice the time: what is inflated, filtered and converted, or the passes over it.
    slow = {
        "16 bits a colour": depth == 16 and colour in (_TRUECOLOUR, _ALPHA),
        "transparency": colour in (_GREY_WITH_ALPHA, _ALPHA),
        "interlacing": data[28] != 0,
    }
    found = [name for name, is_there in slow.items() if is_there]
    check_size(width, height, max_pixels >> len(found), f"of a PNG image with {' and '.join(found)}" if found else "")
    kept, info, begun = [SIGNATURE], {"greyscale": colour in (_GREY, _GREY_WITH_ALPHA)}, False
    for kind, start, end in chunks(data):
        payload = data[start + 8 : end - 4] if kind != b"IDAT" else b""
        begun |= kind == b"IDAT"
        if kind in _KEPT and not (begun and kind not in (b"IDAT", b"IEND")):
            kept.append(data[start:end])
        if kind == b"tRNS" and not begun:
            info["transparency"] = _transparent(payload, depth, colour)
        elif kind == b"iCCP" and "icc_profile" not in info:
            info["icc_profile"] = _inflated(payload.partition(b"\0")[2][1:], LARGEST_PROFILE)
        elif kind == b"iTXt" and payload.startswith(_PACKET) and "xmp" not in info:
            info["xmp"] = _packet(payload)
        elif kind == b"eXIf" and len(payload) <= _LARGEST_METADATA and "exif" not in info:
            info["exif"] = b"Exif\0\0" + payload
    info = {key: value for key, value in info.items() if value is not None}
    keyed = (depth, colour) == (16, _GREY) and "transparency" in info
    return Prepared(b"".join(kept), info, _with_alpha if keyed else as_it_is)


def marked(data: bytes, packet: bytes, with_exif: bool) -> bytes | None:
    """The picture's file with another XMP packet, and without metadata but orientation and resolution.

    Its EXIF data are left as they are `with_exif`. No pixel changes. None for an animation.
    """
    kept, exif = [], b""
    for kind, start, end in chunks(data):
        if kind == b"acTL":
            return None
        if kind == b"eXIf":
            exif = exif or (data[start + 8 : end - 4] if end - start <= _LARGEST_METADATA + 12 else b"")
        elif kind in _KEPT_UNCHANGED:
            kept.append(data[start:end])
    exif = exif if with_exif else metadata.essential(exif)
    added = [png.chunk(b"eXIf", exif)] if exif else []
    added += [png.packet_chunk(packet)] if packet else []
    return b"".join([SIGNATURE, kept[0], *added, *kept[1:], png.chunk(b"IEND", b"")])


def _transparent(payload: bytes, depth: int, colour: int) -> int | tuple[int, ...] | bytes | None:
    """The transparent level or colour as Pillow decodes them: grey of 16 bits, all else of 8. Of a palette the
    transparency of each colour.
    """
    if colour == _PALETTE:
        return payload[:256] or None
    if colour not in (_GREY, _TRUECOLOUR):
        return None
    levels = [int.from_bytes(payload[place : place + 2], "big") for place in range(0, len(payload) - 1, 2)]
    if len(levels) < (1 if colour == _GREY else 3):
        return None
    if depth < 16:
        levels = [level * 255 // (2**depth - 1) for level in levels]
    elif colour == _TRUECOLOUR:
        levels = [level >> 8 for level in levels]
    return levels[0] if colour == _GREY else tuple(levels[:3])


def _with_alpha(image: Image.Image) -> Image.Image:
    """Sixteen bits of grey, of which one level is transparent, as 8 bits with transparency."""
    transparent = image.info["transparency"]

    def both(levels: np.ndarray) -> np.ndarray:
        return np.dstack([levels >> 8, np.where(levels == transparent, 0, 255)]).astype(np.uint8)

    return in_strips(image, both)


def _inflated(payload: bytes, largest: int) -> bytes | None:
    """None for what is broken or becomes larger."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(payload, largest)
    except zlib.error:
        return None
    return found if stream.eof else None


def _packet(payload: bytes) -> bytes | None:
    compressed, rest = payload[len(_PACKET) : len(_PACKET) + 1], payload[len(_PACKET) + 2 :]
    text = rest.split(b"\0", 2)[-1]
    if compressed == b"\1":
        return _inflated(text, _LARGEST_METADATA)
    return text if len(text) <= _LARGEST_METADATA else None
