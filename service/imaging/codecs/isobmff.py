"""AVIF and HEIC files (ISO/IEC 23008-12): the coded pictures of their items, counted before any of them is decoded.

A small file can hold frames without end that are decoded and never shown, or one frame that is much larger than the
picture it is said to be.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from service.errors import BrokenImageError, ImageTooLargeError, UnsupportedImageError
from service.imaging.codecs.photo import Coding
from service.imaging.codecs.prepared import Prepared, check_size

_AVIF, _HEIC = (b"avif", b"avis"), (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_EITHER = (b"mif1", b"msf1", b"miaf")
_ONCE = (b"pitm", b"iref", b"ipco")
_TWICE = "the image's metadata are twice in it"
_MOST_BOXES = 5000
_DEEPEST = 8  # of pictures that are derived from pictures, such as grids of tiles
_MOST_ITEMS = 2000
# Beside the picture itself: its transparency, a gain map, a thumbnail, or a coarser layer.
_MOST_OF_SIZE, _MORE_PIXELS = 2.5, 1_000_000
# Of one picture: its tiles reach beyond it.
_MOST_OF_TILES, _MORE_OF_TILES = 1.3, 4_000_000
_NO_MATRIX = re.compile(rb"colrnclx....\0\0", re.DOTALL)


def format_of(data: bytes) -> str | None:
    """AVIF or HEIF, if a file begins like one, by its brands."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), len(data), 400)
    brands = [data[8:12], *(data[place : place + 4] for place in range(16, end, 4))]
    for brand in brands if brands[0] in _EITHER else brands[:1]:
        if brand in _AVIF:
            return "AVIF"
        if brand in _HEIC:
            return "HEIF"
    return None


def is_lossy(data: bytes) -> bool:
    """Whether a file holds a lossy picture without transparency, as far as its metadata tell.

    Lossless encoders keep red, green and blue as they are, without a matrix (ITU-T H.273).
    """
    head = data[: min(len(data), 100_000)]
    has_alpha = b"auxiliary:alpha" in head or b"hevc:2015:auxid:1" in head
    return not has_alpha and _NO_MATRIX.search(head) is None


@dataclass(frozen=True)
class _Item:
    """One of a file's items: its type, whether its bytes are in the metadata themselves, and where they are."""

    kind: bytes = b""
    inside: bool = False
    extents: tuple[tuple[int, int], ...] = ()


@dataclass
class _Meta:
    """What the metadata say: items by number, the sizes that any of them has, where `idat` begins, how many bytes
    the length of a unit of HEVC takes, and the chroma subsampling of the first coded picture (0: none, 1: across, 2:
    across and down).

    Also the number of the `primary` picture, the sizes among all properties by their place, the places of each item's
    properties, and the references of a kind: from an item to others.
    """

    items: dict[int, _Item] = field(default_factory=dict)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    inside: int = 0
    length_size: int = 4
    subsampling: int | None = None
    primary: int = 0
    size_at: dict[int, tuple[int, int]] = field(default_factory=dict)
    properties: dict[int, list[int]] = field(default_factory=dict)
    references: dict[bytes, dict[int, list[int]]] = field(default_factory=dict)
    seen: set[bytes] = field(default_factory=set)
    counted: dict[int, int] = field(default_factory=dict)
    end: int = 0  # of the boxes

    def pixels_of(self, number: int, deep: int = 0) -> int:
        """Those that an item decodes to: of a derived picture, such as a grid of tiles, each of its parts, as often as
        it has it. Raises BrokenImageError for pictures that are derived from themselves.
        """
        if number in self.counted:
            return self.counted[number]
        if deep > _DEEPEST:
            raise BrokenImageError("the image is derived from too many others")
        parts = self.references.get(b"dimg", {}).get(number)
        if parts is None:
            sizes = (self.size_at.get(place, (0, 0)) for place in self.properties.get(number, ()))
            pixels = max((width * height for width, height in sizes), default=0)
        else:
            pixels = sum(count * self.pixels_of(part, deep + 1) for part, count in Counter(parts).items())
        self.counted[number] = pixels
        return pixels

    @property
    def largest(self) -> int:
        """Pixels of the primary picture, or of one that belongs to it, such as its transparency."""
        auxiliary = self.references.get(b"auxl", {})
        belonging = [number for number, others in auxiliary.items() if self.primary in others]
        return max(map(self.pixels_of, [self.primary, *belonging]))


def prepared(count: Callable[[bytes, int], int], kind: bytes, most_bytes: int) -> Callable[[bytes, int], Prepared]:
    """For files whose items of that `kind` decode to so many pixels as `count` says, and may have `most_bytes`, which
    take their time as pixels do.

    It raises BrokenImageError where there is more to decode than the picture's size promises, and ImageTooLargeError.
    """

    def prepare(data: bytes, max_pixels: int) -> Prepared:
        meta = _meta(data)
        width, height = max(meta.sizes, key=lambda size: size[0] * size[1], default=(0, 0))
        check_size(width, height, max_pixels)
        items = [item for item in meta.items.values() if item.kind == kind]
        # Before anything is copied: items may share their bytes.
        if (size := sum(_length(data, *extent) for item in items for extent in item.extents)) > most_bytes:
            accepted = f"at most {most_bytes} are accepted of AVIF and HEIC images like this; send it as JPEG or PNG"
            raise ImageTooLargeError(f"the image has {size} bytes of coded data; {accepted}")
        decoded = sum(count(_payload(data, meta, item), meta.length_size) for item in items)
        tiles = _MOST_OF_TILES * width * height + _MORE_OF_TILES
        if decoded > _MOST_OF_SIZE * width * height + _MORE_PIXELS or meta.largest > tiles:
            raise BrokenImageError("the image has more to decode than its size promises")
        # Without what was not looked at.
        return Prepared(_still(data[: meta.end]), coding=lambda _: Coding(subsampling=meta.subsampling), buffered=True)

    return prepare


def _still(data: bytes) -> bytes:
    """Of a sequence the still picture."""
    return data[:8] + b"avif" + data[12:] if data[8:12] == b"avis" else data


def _meta(data: bytes) -> _Meta:
    meta = _Meta()
    for kind, start, end in _sound_boxes(data):
        meta.end = end
        if kind == b"meta":
            if kind in meta.seen:
                raise BrokenImageError(_TWICE)
            meta.seen.add(kind)
            for inner in _boxes(data, start + 4, end):
                _read(data, meta, *inner)
    if b"meta" not in meta.seen:
        raise UnsupportedImageError("the image is a sequence without a still picture, which is not accepted")
    return meta


def _sound_boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Those of a file before what is none, which some cameras write behind a picture."""
    boxes, first = _boxes(data, 0, len(data)), True
    while True:
        try:
            found = next(boxes, None)
        except BrokenImageError:
            if first:
                raise
            return
        if found is None:
            return
        first = False
        yield found


def _read(data: bytes, meta: _Meta, kind: bytes, start: int, end: int) -> None:
    if kind in _ONCE and kind in meta.seen:
        raise BrokenImageError(_TWICE)
    meta.seen.add(kind)
    if kind == b"iprp":
        for inner in _boxes(data, start, end):
            _read(data, meta, *inner)
    elif kind == b"ipco":
        for place, (name, begin, stop) in enumerate(_boxes(data, start, end), 1):
            _read(data, meta, name, begin, stop)
            if name == b"ispe":
                meta.size_at[place] = meta.sizes[-1]
    elif kind == b"ipma":
        _read_properties(data, meta, start, end)
    elif kind == b"pitm":
        meta.primary = _number(data, start + 4, 4 if data[start] else 2, end)
    elif kind == b"iref":
        for name, begin, stop in _boxes(data, start + 4, end):
            _read_reference(data, meta, name, begin, stop, 4 if data[start] else 2)
    elif kind == b"ispe":
        meta.sizes.append((_number(data, start + 4, 4, end), _number(data, start + 8, 4, end)))
    elif kind == b"hvcC":
        meta.length_size = 1 + (_number(data, start + 21, 1, end) & 3)
        if meta.subsampling is None:
            meta.subsampling = {1: 2, 2: 1, 3: 0}.get(_number(data, start + 16, 1, end) & 3)
    elif kind == b"av1C" and meta.subsampling is None:
        across, down = (bool(_number(data, start + 2, 1, end) & flag) for flag in (8, 4))
        meta.subsampling = across + (across and down)
    elif kind == b"idat":
        meta.inside = start
    elif kind == b"iinf":
        for inner, begin, stop in _boxes(data, start + (6 if data[start : start + 1] == b"\0" else 8), end):
            if inner == b"infe" and data[begin] in (2, 3):
                size = 2 if data[begin] == 2 else 4
                number = _number(data, begin + 4, size, stop)
                place = begin + 6 + size
                meta.items[number] = replace(meta.items.get(number, _Item()), kind=data[place : place + 4])
    elif kind == b"iloc":
        _read_locations(data, meta, start, end)


def _read_properties(data: bytes, meta: _Meta, start: int, end: int) -> None:
    """Which properties each item has."""
    wide, long = 4 if _number(data, start, 1, end) else 2, 2 if _number(data, start + 3, 1, end) & 1 else 1
    place = start + 8
    for _ in range(_number(data, start + 4, 4, end)):
        number, count = _number(data, place, wide, end), _number(data, place + wide, 1, end)
        place += wide + 1
        found = [_number(data, place + long * each, long, end) for each in range(count)]
        meta.properties.setdefault(number, []).extend(each & (0x7FFF if long == 2 else 0x7F) for each in found)
        place += long * count


def _read_reference(data: bytes, meta: _Meta, kind: bytes, start: int, end: int, wide: int) -> None:
    """From one item to others, of which there may be many: those of a grid."""
    number, count = _number(data, start, wide, end), _number(data, start + wide, 2, end)
    first = start + wide + 2
    if first + wide * count > end:
        raise BrokenImageError("the image is truncated or corrupt")
    others = [int.from_bytes(data[first + wide * each : first + wide * (each + 1)], "big") for each in range(count)]
    meta.references.setdefault(kind, {}).setdefault(number, []).extend(others)


def _read_locations(data: bytes, meta: _Meta, start: int, end: int) -> None:
    version = _number(data, start, 1, end)
    sizes = _number(data, start + 4, 2, end)
    of_offset, of_length, of_base, of_index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    of_index = of_index if version else 0
    wide = 4 if version == 2 else 2
    count, place = _number(data, start + 6, wide, end), start + 6 + wide
    if count > _MOST_ITEMS:
        raise BrokenImageError("the image has too many items")
    for _ in range(count):
        number, place = _number(data, place, wide, end), place + wide
        method, place = (_number(data, place, 2, end) & 15, place + 2) if version else (0, place)
        place += 2  # of another file, which is never read
        base, place = _number(data, place, of_base, end), place + of_base
        extents, place = _number(data, place, 2, end), place + 2
        found = []
        for _ in range(extents):
            offset = base + _number(data, place + of_index, of_offset, end)
            length = _number(data, place + of_index + of_offset, of_length, end)
            place += of_index + of_offset + of_length
            found.append((offset, length))
            if len(found) > _MOST_ITEMS:
                raise BrokenImageError("the image has too many parts")
        item = meta.items.get(number, _Item())
        meta.items[number] = replace(item, inside=method == 1, extents=tuple(found))


def _length(data: bytes, start: int, length: int) -> int:
    """Of a part of a file, 0 for all of the rest; a part that begins in the metadata may be shorter."""
    return min(length or len(data), max(0, len(data) - start))


def _payload(data: bytes, meta: _Meta, item: _Item) -> bytes:
    base = meta.inside if item.inside else 0
    parts = [data[base + start : base + start + length if length else None] for start, length in item.extents]
    if sum(map(len, parts)) > len(data):
        raise BrokenImageError("the image has parts that overlap")
    return b"".join(parts)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start of the contents and end of each box. Raises BrokenImageError where there are too many."""
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            return
        size, head = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 1:
            size, head = _number(data, start + 8, 8, end), 16
        stop = end if size == 0 else start + size
        if stop > end or stop < start + head:
            raise BrokenImageError("the image is truncated or corrupt")
        yield data[start + 4 : start + 8], start + head, stop
        start = stop
    raise BrokenImageError(f"the image has more than {_MOST_BOXES} boxes")


def _number(data: bytes, start: int, size: int, end: int) -> int:
    if start + size > end:
        raise BrokenImageError("the image is truncated or corrupt")
    return int.from_bytes(data[start : start + size], "big")
