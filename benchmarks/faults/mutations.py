"""Pictures made to break decoders, from seeds: the same seed gives the same bytes.

Each attack of ATTACKS takes a random generator and returns a file. All are small: what is large about a bomb is what it
promises to become.
"""

from __future__ import annotations

import gzip
import io
import itertools
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
from PIL import Image, TiffImagePlugin

Attack = Callable[[random.Random], bytes]
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIZE = (178, 218)  # of a framed face, so that what is still a picture goes all the way


@cache
def sound() -> dict[str, bytes]:
    """Files that are in order, of every kind that is accepted and of some variants, by name."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (SIZE[1] // 12, SIZE[0] // 12, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
    other = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 3, "a camera"  # upside down
    exif.get_ifd(0x8825)[1] = "N"
    alpha = picture.copy()
    alpha.putalpha(picture.convert("L"))
    deep = Image.fromarray(np.asarray(picture.convert("L"), dtype=np.uint16) << 8)
    frames = {"save_all": True, "append_images": [other, picture], "duration": 50}
    return {
        "png": _saved(picture, "PNG", exif=exif),
        "png-rgba": _saved(alpha, "PNG"),
        "png-palette": _saved(picture.quantize(32), "PNG", transparency=3),
        "png-16": _saved(deep, "PNG"),
        "png-1": _saved(picture.convert("1"), "PNG"),
        "apng": _saved(picture, "PNG", **frames),
        "jpeg": _saved(picture, "JPEG", exif=exif, icc_profile=b"\0" * 128 + b"not a profile"),
        "jpeg-progressive": _saved(picture, "JPEG", progressive=True, subsampling=2),
        "jpeg-cmyk": _saved(picture.convert("CMYK"), "JPEG"),
        "jpeg-grey": _saved(picture.convert("L"), "JPEG"),
        "mpo": _saved(picture, "MPO", save_all=True, append_images=[other]),
        "webp": _saved(picture, "WEBP", quality=60, exif=exif),
        "webp-lossless": _saved(alpha, "WEBP", lossless=True),
        "webp-animated": _saved(picture, "WEBP", **frames),
        "gif": _saved(picture, "GIF"),
        "gif-animated": _saved(picture, "GIF", **frames, disposal=2, transparency=0),
        "gif-interlaced": _saved(picture.quantize(64), "GIF", interlace=1),
    }


def mutated(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """`count` files and the name of the attack that made each: all in turn, those of _DEAR once in ten rounds."""
    cheap = [name for name in ATTACKS if name not in _DEAR]
    order = itertools.cycle([*ATTACKS, *(cheap * 9)])
    for number, name in enumerate(itertools.islice(order, count)):
        yield name, ATTACKS[name](random.Random(f"{seed} {number}"))


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _any(rng: random.Random, prefix: str = "") -> bytes:
    return sound()[rng.choice([name for name in sound() if name.startswith(prefix)])]


# Damage that knows nothing of formats.


def flips(rng: random.Random) -> bytes:
    data = bytearray(_any(rng))
    for _ in range(rng.choice((1, 3, 30, 300))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def header_flips(rng: random.Random) -> bytes:
    data = bytearray(_any(rng))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(min(64, len(data)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(data)


def truncation(rng: random.Random) -> bytes:
    data = _any(rng)
    return data[: rng.choice((rng.randrange(64), rng.randrange(len(data)), len(data) - 1))]


def removal(rng: random.Random) -> bytes:
    data = _any(rng)
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 400) :]


def insertion(rng: random.Random) -> bytes:
    data = _any(rng)
    start = rng.randrange(len(data))
    filler = rng.choice((bytes(rng.randint(1, 400)), rng.randbytes(rng.randint(1, 400)), b"\xff" * 64))
    return data[:start] + filler + data[start:]


def splice(rng: random.Random) -> bytes:
    one, other = _any(rng), _any(rng)
    return one[: rng.randrange(len(one))] + other[rng.randrange(len(other)) :]


def large_numbers(rng: random.Random) -> bytes:
    """Numbers that overflow, somewhere."""
    data = bytearray(_any(rng))
    for _ in range(rng.randint(1, 5)):
        number = rng.choice((0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFF, 0))
        place = rng.randrange(len(data) - 4)
        struct.pack_into(rng.choice("<>") + "I", data, place, number)
    return bytes(data)


def noise(rng: random.Random) -> bytes:
    signature = rng.choice((b"", _SIGNATURE, b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBPVP8 ", b"GIF89a"))
    return signature + rng.randbytes(rng.choice((0, 1, 10, 1000, 20000)))


# PNG.


def _chunk(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    checksum = zlib.crc32(kind + data) if checksum is None else checksum
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _header(width: int, height: int, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    return _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))


def _chunks(data: bytes) -> list[bytes]:
    """The chunks of a sound PNG."""
    found, place = [], len(_SIGNATURE)
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        found.append(data[place : place + length + 12])
        place += length + 12
    return found


@cache
def _zeros(count: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(count // 1_000_000)), packer.flush()])


def png_bomb(rng: random.Random) -> bytes:
    """Much more than is accepted, or just as much, in a small file."""
    width, height = rng.choice(((60_000, 60_000), (30_000, 1100), (5000, 6000), (1, 31_000_000), (5600, 5600)))
    return _SIGNATURE + _header(width, height, 1, 0) + _chunk(b"IDAT", _zeros(4_000_000)) + _chunk(b"IEND", b"")


def png_sizes(rng: random.Random) -> bytes:
    """A size that the data do not fill, or overfill."""
    sides = (0, 1, 3, 177, 179, 1000, 4096, 65_535, 2**31 - 1, 2**31, 2**32 - 1)
    rest = _chunks(sound()["png"])[1:]
    header = _header(rng.choice(sides), rng.choice(sides), rng.choice((1, 2, 4, 8, 16, 7)), rng.randrange(8))
    return _SIGNATURE + header + b"".join(rest)


def png_chunk_order(rng: random.Random) -> bytes:
    chunks = _chunks(sound()[rng.choice(("png", "png-rgba", "png-palette", "apng"))])
    match rng.randrange(4):
        case 0:
            rng.shuffle(chunks)
        case 1:
            chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
        case 2:
            del chunks[rng.randrange(len(chunks))]
        case 3:
            chunks[1:1] = [_chunk(b"tEXt", b"a\0b")] * rng.choice((10, 3000))
    return _SIGNATURE + b"".join(chunks)


def png_texts(rng: random.Random) -> bytes:
    """Compressed texts and profiles that grow, or that are not what they say."""
    bomb = _zeros(rng.choice((1_000_000, 60_000_000)))
    kind = rng.choice(
        (
            _chunk(b"zTXt", b"Comment\0\0" + bomb),
            _chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb),
            _chunk(b"iCCP", b"p\0\0" + bomb),
            _chunk(b"iCCP", b"p\0\0" + rng.randbytes(100)),
            _chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + _laughs()),
            _chunk(b"eXIf", rng.randbytes(60)),
            _chunk(b"tRNS", rng.randbytes(rng.randrange(300))),
            _chunk(b"PLTE", rng.randbytes(rng.randrange(900))),
            _chunk(b"gAMA", b"\0\0\0\0") + _chunk(b"cHRM", bytes(32)),
        )
    )
    first, *rest = _chunks(sound()[rng.choice(("png", "png-palette"))])
    return _SIGNATURE + first + kind * rng.choice((1, 1, 20)) + b"".join(rest)


def png_frames(rng: random.Random) -> bytes:
    """An animation that lies about its frames."""
    first, *rest = _chunks(sound()["apng"])
    control = _chunk(b"acTL", struct.pack(">II", rng.choice((0, 1, 2**31 - 1)), rng.choice((0, 2**32 - 1))))
    place = struct.pack(">IIIIIHHBB", 0, *(rng.choice((0, 1, 178, 2**31)) for _ in range(4)), 1, 0, 9, 9)
    return _SIGNATURE + first + control + _chunk(b"fcTL", place) + b"".join(rest)


# JPEG.


def _segment(marker: int, data: bytes, length: int | None = None) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2 if length is None else length) + data


def _with_segment(rng: random.Random, segment: bytes) -> bytes:
    data = _any(rng, "jpeg")
    return data[:2] + segment + data[2:]


def jpeg_sizes(rng: random.Random) -> bytes:
    """Another size, precision, or number and sampling of components in the frame's header."""
    data = bytearray(_any(rng, "jpeg"))
    start = next(p for p in range(len(data)) if data[p] == 0xFF and data[p + 1] in (0xC0, 0xC2))
    sides = (0, 1, 177, 1000, 5000, 65_535)
    struct.pack_into(">BHH", data, start + 4, rng.choice((8, 8, 8, 12, 0)), rng.choice(sides), rng.choice(sides))
    if rng.random() < 0.3:
        data[start + 9] = rng.choice((0, 1, 2, 4, 255))
    if rng.random() < 0.3:
        data[start + 11] = rng.choice((0x00, 0x14, 0x41, 0x44, 0xFF))
    if rng.random() < 0.2:
        data[start + 1] = rng.choice((0xC1, 0xC3, 0xC9, 0xCA))
    return bytes(data)


def jpeg_scans(rng: random.Random) -> bytes:
    """Scans without end, each of which costs a pass over the whole picture."""
    data = sound()["jpeg-progressive"]
    place = data.index(b"\xff\xda")
    scan = data[place : data.index(b"\xff\xda", place + 2)]
    return data[:-2] + scan * rng.choice((5, 60, 2000)) + b"\xff\xd9"


def jpeg_tables(rng: random.Random) -> bytes:
    marker = rng.choice((0xC4, 0xDB, 0xDD, 0xDA, 0xEE, 0xFE))
    return _with_segment(rng, _segment(marker, rng.randbytes(rng.randrange(300))) * rng.choice((1, 200)))


def exif(rng: random.Random) -> bytes:
    """Metadata that point at themselves, beyond their end, or at more than there is."""
    order = rng.choice("<>")
    entries = b"".join(
        struct.pack(
            order + "HHII",
            rng.choice((0x0112, 0x8769, 0x8825, 0x014A, 0x0201, 0xA005, rng.randrange(65536))),
            rng.randrange(14),
            rng.choice((0, 1, 2**16, 2**31, 2**32 - 1)),
            rng.choice((0, 8, 26, 2**31, 2**32 - 1)),
        )
        for _ in range(rng.choice((1, 5, 60)))
    )
    count = rng.choice((len(entries) // 12, 65_535))
    start = struct.pack(order + "HHI", *((42, 0, 0)))[:2] + struct.pack(order + "I", rng.choice((8, 8, 0, 2**32 - 1)))
    block = (b"II" if order == "<" else b"MM") + start + struct.pack(order + "H", count) + entries
    block += struct.pack(order + "I", rng.choice((0, 8, 2**32 - 1)))
    if rng.random() < 0.5:
        return _with_segment(rng, _segment(0xE1, b"Exif\0\0" + block))
    first, *rest = _chunks(sound()["png"])
    return _SIGNATURE + first + _chunk(b"eXIf", block) + b"".join(rest)


def icc(rng: random.Random) -> bytes:
    """Profiles in pieces that are missing, too many, or nonsense."""
    pieces = rng.choice((1, 3, 255))
    kept = rng.sample(range(pieces + 1), rng.randint(1, pieces))
    size = rng.choice((0, 10, 128, 2000))
    numbered = [_segment(0xE2, b"ICC_PROFILE\0" + bytes([n, pieces]) + rng.randbytes(size)) for n in kept]
    return _with_segment(rng, b"".join(numbered))


def _laughs() -> bytes:
    entities = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12))
    return b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">' + entities + b"]><x>&l11;</x>"


def packets(rng: random.Random) -> bytes:
    """XMP, C2PA and Photoshop blocks that are not what they say."""
    xmp = b"http://ns.adobe.com/xap/1.0/\0"
    deep = b"<a>" * 8000
    block = rng.choice(
        (
            _segment(0xE1, xmp + _laughs()),
            _segment(0xE1, xmp + deep),
            _segment(0xE1, xmp + rng.randbytes(500)),
            _segment(0xEB, b"JP\0\1" + struct.pack(">III", 1, 2**31 - 1, 0x6A756D62) + rng.randbytes(200)),
            _segment(0xEB, b"JP\0\1" + struct.pack(">II4s", 1, 8 + rng.randrange(200), b"jumb") + rng.randbytes(200)),
            _segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 2**31 - 1)),
            _segment(0xE2, b"MPF\0" + rng.randbytes(80)),
        )
    )
    return _with_segment(rng, block * rng.choice((1, 1, 10)))


def mpo(rng: random.Random) -> bytes:
    """Several pictures in one file, whose index points anywhere."""
    data = bytearray(sound()["mpo"])
    place = data.index(b"MPF\0")
    for _ in range(rng.randint(1, 6)):
        struct.pack_into(">I", data, place + 4 + rng.randrange(76), rng.choice((0, 1, 2**31, 2**32 - 1)))
    return bytes(data)


# GIF and WebP.


def gif_screens(rng: random.Random) -> bytes:
    """Screens and frames of sizes that do not go together."""
    data = bytearray(_any(rng, "gif"))
    sides = (0, 1, 177, 5000, 65_535)
    struct.pack_into("<HH", data, 6, rng.choice(sides), rng.choice(sides))
    if rng.random() < 0.6:
        place = data.index(b"\x2c\0\0\0\0")
        struct.pack_into("<HHHH", data, place + 1, *(rng.choice(sides) for _ in range(4)))
    return bytes(data)


def gif_frames(rng: random.Random) -> bytes:
    """Frames, comments and codes without end."""
    data = sound()["gif-animated"]
    start = data.index(b"\x21\xf9")
    blocks = (data[start:-1], b"\x21\xfe\xff" + bytes(255), b"\x21\xff\x0bXMP DataXMP" + rng.randbytes(300), b"\x2c")
    return data[:start] + rng.choice(blocks) * rng.choice((1, 50)) + data[start:] + rng.choice((b"", b";"))


def webp_chunks(rng: random.Random) -> bytes:
    """RIFF chunks in another order, with other lengths, in another number."""
    data = _any(rng, "webp")
    found, place = [], 12
    while place + 8 <= len(data):
        length = struct.unpack_from("<I", data, place + 4)[0]
        found.append(data[place : place + 8 + length + length % 2])
        place += 8 + length + length % 2
    match rng.randrange(4):
        case 0:
            rng.shuffle(found)
        case 1:
            found.insert(rng.randrange(len(found) + 1), rng.choice(found))
        case 2:
            which = rng.randrange(len(found))
            length = struct.pack("<I", rng.choice((0, 1, 2**31, 2**32 - 1)))
            found[which] = found[which][:4] + length + found[which][8:]
        case 3:
            found.insert(0, b"VP8X" + struct.pack("<II", 10, rng.randrange(256)) + rng.choice((b"\xff", b"\0")) * 6)
    body = b"WEBP" + b"".join(found)
    return b"RIFF" + struct.pack("<I", rng.choice((len(body), 0, 2**32 - 1))) + body


@cache
def _wide_webp() -> bytes:
    return _saved(Image.new("L", (16_383, 1900)), "WEBP", lossless=True, quality=0, method=0)


def webp_bomb(rng: random.Random) -> bytes:
    """Nearly as many pixels as are accepted, in a few hundred bytes; whole, or not quite."""
    data = bytearray(_wide_webp())
    if rng.random() < 0.9:
        data[rng.randrange(20, len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


# Other files, as they are and in disguise.


@cache
def _foreign() -> dict[str, bytes]:
    picture = Image.new("RGB", (64, 64), "red")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("../../etc/passwd", bytes(1_000_000))
    tiff = TiffImagePlugin.ImageFileDirectory_v2()
    tiff[270] = "a" * 1000
    return {
        "tiff": _saved(picture, "TIFF", tiffinfo=tiff),
        "tiff-lzw": _saved(picture, "TIFF", compression="tiff_lzw"),
        "bmp": _saved(picture, "BMP"),
        "ico": _saved(picture, "ICO"),
        "ppm": b"P6 99999 99999 255\n" + bytes(100),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(%pipe%id) (r) file\n",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "html": b"<!DOCTYPE html><script>alert(1)</script>",
        "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\n%%EOF",
        "zip": archive.getvalue(),
        "gzip": gzip.compress(bytes(10_000_000)),
        "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1" + bytes(100),
        "jpeg2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100),
        "psd": b"8BPS\0\1" + bytes(100),
        "elf": b"\x7fELF" + bytes(100),
        "text": "a face".encode("utf-16"),
    }


def foreign(rng: random.Random) -> bytes:
    """Another kind of file; TIFF with offsets that go anywhere."""
    data = bytearray(_foreign()[rng.choice(sorted(_foreign()))])
    if rng.random() < 0.5 and len(data) > 12:
        struct.pack_into("<I", data, rng.randrange(len(data) - 4), rng.choice((0, 8, 2**31, 2**32 - 1)))
    return bytes(data)


def polyglot(rng: random.Random) -> bytes:
    """Two files in one: another behind, before, or inside a picture."""
    picture, other = _any(rng), _foreign()[rng.choice(sorted(_foreign()))]
    match rng.randrange(3):
        case 0:
            return picture + other
        case 1:
            return other[:1024] + picture
        case _:
            return _with_segment(rng, _segment(0xFE, other[:60_000]))


def disguise(rng: random.Random) -> bytes:
    """Another kind of file behind a picture's first bytes."""
    return _any(rng)[: rng.choice((4, 8, 12, 33))] + _foreign()[rng.choice(sorted(_foreign()))]


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack
    for attack in (
        *(flips, header_flips, truncation, removal, insertion, splice, large_numbers, noise),
        *(png_bomb, png_sizes, png_chunk_order, png_texts, png_frames),
        *(jpeg_sizes, jpeg_scans, jpeg_tables, exif, icc, packets, mpo),
        *(gif_screens, gif_frames, webp_chunks, webp_bomb, foreign, polyglot, disguise),
    )
}
# Each keeps a core busy for a second or more.
_DEAR = ("png_bomb", "webp_bomb")
