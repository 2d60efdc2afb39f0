"""PNG files with too much beside their pixels, and pixels of every depth."""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile

from service.errors import BrokenImageError, ImageTooLargeError
from service.imaging import codecs, xmp
from service.imaging.codecs import png_chunks
from tests.service.fakes import encoded
from tests.service.imaging import pngs
from tests.service.imaging.pngs import chunk, with_chunks

LIMIT = 1_000_000
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8))
STILL = encoded(PICTURE, "PNG")
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"XML:com.adobe.xmp\0"


@cache
def zeros(count: int) -> bytes:
    """Compressed."""
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(count // 1_000_000)), packer.flush()])


def padded(size: int) -> bytes:
    """A sound profile of so many bytes."""
    return size.to_bytes(4, "big") + PROFILE[4:] + bytes(size - len(PROFILE))


# ---- beside the pixels

ANCILLARY = {
    "a long text": chunk(b"tEXt", b"Comment\0" + b"x" * 3_000_000),
    "a text that becomes long": chunk(b"zTXt", b"Comment\0\0" + zeros(60_000_000)),
    "long international text": chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"x" * 3_000_000),
    "long XMP": chunk(b"iTXt", XMP + b"\0\0\0\0" + b"x" * 3_000_000),
    "XMP that becomes long": chunk(b"iTXt", XMP + b"\1\0\0\0" + zeros(60_000_000)),
    "a profile that becomes long": chunk(b"iCCP", b"p\0\0" + zeros(60_000_000)),
    "a profile that is none": chunk(b"iCCP", b"p\0\0" + zlib.compress(b"not a profile" * 20)),
    "a profile that is not compressed": chunk(b"iCCP", b"p\0\0" + PROFILE),
    "a profile of nothing": chunk(b"iCCP", b""),
    "long EXIF data": chunk(b"eXIf", b"MM\0*" + bytes(3_000_000)),
    "a wrong checksum": chunk(b"tEXt", b"Comment\0x", checksum=0),
    "3000 texts": chunk(b"tEXt", b"a\0b") * 3000,
    "truncated numbers": b"".join(
        chunk(kind, b"\1") for kind in (b"gAMA", b"cHRM", b"sRGB", b"acTL", b"fcTL", b"bKGD")
    ),
    "private data": chunk(b"prVt", bytes(3_000_000)),
}


@pytest.mark.parametrize("chunks", ANCILLARY.values(), ids=ANCILLARY.keys())
@pytest.mark.parametrize("place", [33, len(STILL) - 12], ids=["before", "behind"])
def test_ancillary_chunks_do_no_harm(chunks: bytes, place: int):
    found = codecs.decode_photo(STILL[:place] + chunks + STILL[place:], LIMIT)
    assert np.array_equal(found.image, PICTURE)
    assert found.profile is None
    assert codecs.decode_marked(STILL[:place] + chunks + STILL[place:], LIMIT)[1] is None


@pytest.mark.parametrize("size", [len(PROFILE), 1_500_000, 3_999_999])
def test_a_profile_as_large_as_those_of_presses_is_kept(size: int):
    data = with_chunks(STILL, chunk(b"iCCP", b"p\0\0" + zlib.compress(padded(size))))
    assert codecs.decode_photo(data, LIMIT).profile == padded(size)


@pytest.mark.parametrize("packet", [b"\0\0\0\0", b"\1\0\0\0", b"\0\0en\0\0", b"\1\0en\0name\0"])
def test_xmp_is_read_as_text_and_compressed(packet: bytes):
    mark = xmp.Mark(system="S")
    text = xmp.packet(mark)
    text = zlib.compress(text) if packet[0] else text
    assert codecs.decode_marked(with_chunks(STILL, chunk(b"iTXt", XMP + packet + text)), LIMIT)[1] == mark


def test_of_each_kind_the_first_is_inflated_and_no_other(monkeypatch: pytest.MonkeyPatch):
    inflated, inflate = [], png_chunks._inflated
    monkeypatch.setattr(png_chunks, "_inflated", lambda *given: inflated.append(1) or inflate(*given))
    bombs = [chunk(b"iCCP", b"p\0\0" + zeros(3_000_000)), chunk(b"iTXt", XMP + b"\1\0\0\0" + zeros(3_000_000))]
    assert np.array_equal(codecs.decode(with_chunks(STILL, *bombs * 500), LIMIT), PICTURE)
    assert len(inflated) == 2


@pytest.mark.parametrize("kind", [b"tEXt", b"IDAT"])
def test_chunks_without_end_are_refused(kind: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("pixels were decoded"))
    with pytest.raises(BrokenImageError, match="more than 50000 chunks"):
        codecs.decode(with_chunks(STILL, chunk(kind, b"") * 50_000), LIMIT)


def test_data_in_many_chunks_are_one_picture():
    start = STILL.index(b"IDAT") - 4
    length = int.from_bytes(STILL[start : start + 4], "big")
    payload = STILL[start + 8 : start + 8 + length]
    pieces = b"".join(chunk(b"IDAT", payload[place : place + 7]) for place in range(0, length, 7))
    data = STILL[:start] + pieces + STILL[start + length + 12 :]
    assert np.array_equal(codecs.decode(data, LIMIT), PICTURE)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE"])
def test_what_pixels_need_must_have_its_checksum(kind: bytes):
    still = bytearray(encoded(PICTURE.quantize(8), "PNG"))
    place = still.index(kind) + 4
    still[place + int.from_bytes(still[place - 8 : place - 4], "big")] ^= 1
    with pytest.raises(BrokenImageError):
        codecs.decode(bytes(still), LIMIT)


@pytest.mark.parametrize("end", [20, 32, 33, 60, len(STILL) - 30])
def test_a_picture_that_is_cut_is_broken(end: int):
    with pytest.raises(BrokenImageError):
        codecs.decode(STILL[:end], LIMIT)


def test_a_picture_without_its_last_chunk_is_whole():
    assert np.array_equal(codecs.decode(STILL[:-12], LIMIT), PICTURE)


def test_a_picture_that_does_not_begin_with_its_header_is_broken():
    with pytest.raises(BrokenImageError, match="header"):
        codecs.decode(pngs.SIGNATURE + chunk(b"tEXt", b"a\0b") + STILL[8:], LIMIT)


def test_the_size_is_told_before_chunks_are_looked_at():
    with pytest.raises(ImageTooLargeError, match="2147483647 x 2"):
        codecs.decode(pngs.SIGNATURE + pngs.header(2**31 - 1, 2) + chunk(b"tEXt", b"") * 60_000, LIMIT)


def test_of_an_animation_the_default_image_is_taken():
    data = encoded(PICTURE, "PNG", save_all=True, append_images=[Image.new("RGB", PICTURE.size)], duration=50)
    assert b"fdAT" in data
    assert np.array_equal(codecs.decode(data, LIMIT), PICTURE)


# ---- depths

GREY, TRUECOLOUR, PALETTE, GREY_ALPHA, ALPHA = 0, 2, 3, 4, 6


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_one_level_of_grey_is_transparent(depth: int):
    levels = np.arange(2**depth, dtype=np.uint8).reshape(1, -1, 1)
    key = chunk(b"tRNS", b"\0" + bytes([2**depth - 1]))
    found = codecs.decode_photo(pngs.png(levels, depth, GREY, key), LIMIT)
    assert np.asarray(found.alpha)[0].tolist() == [255] * (2**depth - 1) + [0]
    assert np.asarray(found.image)[0, :, 1].tolist() == [level * 255 // (2**depth - 1) for level in range(2**depth)]
    assert found.greyscale


def test_one_of_sixteen_bits_of_grey_is_transparent():
    levels = np.array([[0, 0x1234, 0x1235, 0x80FF, 0xFFFF]])[:, :, None]
    found = codecs.decode_photo(pngs.png(levels, 16, GREY, chunk(b"tRNS", b"\x12\x34")), LIMIT)
    assert np.asarray(found.image)[0].tolist() == [[level] * 3 for level in (0, 0x12, 0x12, 0x80, 0xFF)]
    assert np.asarray(found.alpha)[0].tolist() == [255, 0, 255, 255, 255]
    assert found.greyscale


def test_sixteen_bits_of_colour_become_the_upper_eight():
    levels = np.array([[[0, 0xFF, 0x100], [0x7FFF, 0x8000, 0xFFFF]]])
    found = codecs.decode_photo(pngs.png(levels, 16), LIMIT)
    assert np.asarray(found.image)[0].tolist() == [[0, 0, 1], [0x7F, 0x80, 0xFF]]
    assert found.alpha is None
    keyed = codecs.decode_photo(pngs.png(levels, 16, TRUECOLOUR, chunk(b"tRNS", b"\0\0\0\xff\1\0")), LIMIT)
    assert np.asarray(keyed.alpha)[0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("depth", "colour", "interlace", "share"),
    [
        (8, TRUECOLOUR, 0, 1), (16, GREY, 0, 1), (8, PALETTE, 0, 1), (16, TRUECOLOUR, 0, 2), (8, ALPHA, 0, 2),
        (8, GREY_ALPHA, 0, 2), (8, TRUECOLOUR, 1, 2), (8, GREY, 1, 2), (16, ALPHA, 0, 4), (16, ALPHA, 1, 8),
    ],
)  # fmt: skip
def test_pictures_that_take_longer_may_have_fewer_pixels(depth: int, colour: int, interlace: int, share: int):
    for width, allowed in ((LIMIT // share, True), (LIMIT // share + 1, False)):
        data = pngs.SIGNATURE + pngs.header(width, 1, depth, colour, interlace)
        with pytest.raises(BrokenImageError if allowed else ImageTooLargeError):  # of data there are none
            codecs.decode(data, LIMIT)


def test_what_a_picture_has_too_many_pixels_for_is_named():
    data = pngs.SIGNATURE + pngs.header(LIMIT, 1, 16, ALPHA, 1)
    with pytest.raises(ImageTooLargeError, match=r"125000 .* 16 bits a colour and transparency and interlacing"):
        codecs.decode(data, LIMIT)


@pytest.mark.parametrize(("colour", "channels"), [(GREY_ALPHA, 2), (ALPHA, 4)])
def test_sixteen_bits_with_transparency(colour: int, channels: int):
    levels = np.full((1, 2, channels), 0x4321)
    levels[0, :, -1] = 0xFFFF, 0x80FF
    found = codecs.decode_photo(pngs.png(levels, 16, colour), LIMIT)
    assert np.asarray(found.alpha)[0].tolist() == [0xFF, 0x80]
    assert (np.asarray(found.image) == 0x43).all()
    assert found.greyscale == (colour == GREY_ALPHA)


@pytest.mark.parametrize("colour", [GREY, TRUECOLOUR, PALETTE])
@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff" * 5, b"\xff" * 6, b"\xff" * 2000])
def test_a_transparent_colour_that_cannot_be_is_ignored(colour: int, payload: bytes):
    before = [chunk(b"PLTE", bytes(range(24)))] if colour == PALETTE else []
    levels = np.arange(6 if colour == PALETTE else 30, dtype=np.uint8).reshape(1, -1, 3 if colour == TRUECOLOUR else 1)
    data = pngs.png(levels, 8, colour, *before, chunk(b"tRNS", payload))
    assert codecs.decode_photo(data, LIMIT).image.size == (levels.shape[1], 1)


@pytest.mark.parametrize(("depth", "colour"), [(2, 2), (3, 0), (16, 3), (8, 5), (1, 6), (32, 2)])
def test_depths_that_there_are_none_of_are_broken(depth: int, colour: int):
    data = pngs.SIGNATURE + pngs.header(4, 4, depth, colour) + STILL[33:]
    with pytest.raises(BrokenImageError):
        codecs.decode(data, LIMIT)
