"""AVIF: what is read, and what is refused before it costs anything."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import pytest
from PIL import Image

from service.errors import BrokenImageError, ImageError, ImageTooLargeError, UnsupportedImageError
from service.imaging import codecs, xmp
from service.imaging.codecs import decoding, isobmff
from service.imaging.codecs.photo import Coding
from tests.service.fakes import encoded
from tests.service.imaging import profiles
from tests.service.imaging.samples import LIMIT, PICTURE, SMOOTH, avif, box, decoded, translucent


def test_avif_is_read():
    assert abs(decoded(avif(quality=90)).astype(int) - np.asarray(SMOOTH)).mean() < 4
    photo = codecs.decode_photo(avif(translucent(SMOOTH), quality=90), LIMIT)
    assert abs(np.asarray(photo.alpha).astype(int) - np.asarray(translucent(SMOOTH))[:, :, 3]).mean() < 3
    assert codecs.decode_photo(avif(icc_profile=profiles.srgb()), LIMIT).profile == profiles.srgb()


def test_orientation_and_packet_of_an_avif():
    told = Image.Exif()
    told[0x0112] = 6
    packet = xmp.packet(xmp.Mark(system="S"))
    data = avif(exif=told, xmp=packet)
    assert codecs.decode(data, LIMIT).size == (80, 60)
    assert codecs.decode_marked(data, LIMIT)[1] == xmp.Mark(system="S")


def test_of_a_sequence_the_still_picture_is_taken():
    data = avif(save_all=True, append_images=[SMOOTH.rotate(180)] * 5, quality=90)
    assert data[8:12] == b"avis"
    assert abs(decoded(data).astype(int) - np.asarray(SMOOTH)).mean() < 4


def sized(data: bytes, width: int, height: int) -> bytes:
    """The file, whose metadata tell of another size."""
    place = data.index(b"ispe") + 8
    return data[:place] + struct.pack(">II", width, height) + data[place + 8 :]


@pytest.mark.usefixtures("undecoded")
def test_a_frame_that_is_larger_than_the_picture_it_is_said_to_be_is_refused():
    data = encoded(Image.new("RGB", (2048, 2048)), "AVIF", speed=10)
    with pytest.raises(BrokenImageError, match="more to decode"):
        codecs.decode(sized(data, 64, 64), 10 * LIMIT)
    with pytest.raises(ImageTooLargeError, match="4096 x 4096"):
        codecs.decode(sized(data, 4096, 4096), 10 * LIMIT)


@pytest.mark.usefixtures("undecoded")
def test_frames_that_are_not_shown_are_counted():
    """The item's data once more, many times over: each is a whole frame."""
    image = Image.new("RGB", (1024, 1024))
    data = encoded(image, "AVIF", speed=10)
    meta = isobmff._meta(data)
    ((start, length),) = meta.items[1].extents
    assert start + length == len(data)
    location = struct.pack(">II", start, length)
    assert data.count(location) == 1
    for times, refused in ((2, False), (5, True)):
        grown = data.replace(location, struct.pack(">II", start, length * times)) + data[start:] * (times - 1)
        if refused:
            with pytest.raises(BrokenImageError, match="more to decode"):
                isobmff_prepared(grown)
        else:
            isobmff_prepared(grown)


def isobmff_prepared(data: bytes) -> None:
    decoding._PREPARE["AVIF"](data, 10 * LIMIT)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_avif_is_read_or_refused(seed: int):
    rng = np.random.default_rng(seed)
    data = bytearray(avif(translucent(SMOOTH)))
    for place in rng.integers(0, 500, 3):
        data[place] = rng.integers(256)
    with contextlib.suppress(ImageError):
        assert codecs.decode(bytes(data), LIMIT).mode == "RGB"


HEAD = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (HEAD, UnsupportedImageError),
        (HEAD + box(b"meta", bytes(4) + box(b"free", b"") * 6000), BrokenImageError),
        (HEAD + box(b"meta", bytes(4) + box(b"iloc", b"\2\0\0\0\x44\0" + b"\0\0\xff\xff")), BrokenImageError),
        (HEAD + box(b"meta", bytes(4) + box(b"iloc", bytes(4))), BrokenImageError),
        (HEAD + box(b"meta", bytes(4) + b"\0\0\xff\xffispe"), BrokenImageError),
        (HEAD + box(b"meta", bytes(4)), BrokenImageError),
    ],
)
def test_metadata_without_a_picture_are_refused(data: bytes, error: type[Exception]):
    with pytest.raises(error):
        codecs.decode(data, LIMIT)


@pytest.mark.usefixtures("undecoded")
def test_coded_data_that_take_long_are_refused():
    """A decoder takes 40 ms a megabyte of AV1, however few the pixels are."""
    data, most = avif(PICTURE, quality=100), 20_000_000
    meta = isobmff._meta(data)
    ((start, length),) = next(item.extents for item in meta.items.values() if item.kind == b"av01")
    place = data.rindex(length.to_bytes(4, "big"), 0, start)
    grown = data[:place] + (most + 1).to_bytes(4, "big") + data[place + 4 :] + bytes(most)
    with pytest.raises(ImageTooLargeError, match="bytes of coded data; at most 20000000"):
        codecs.decode(grown, LIMIT)


@pytest.mark.parametrize(("subsampling", "written"), [("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)])
def test_a_lossy_avif_is_answered_with_its_subsampling(subsampling: str, written: int):
    data = avif(subsampling=subsampling)
    photo = codecs.decode_photo(data, LIMIT)
    assert photo.coding == Coding(subsampling=written)
    found = codecs.encode_photo(photo, "jpeg")
    assert codecs.decode_photo(found, LIMIT).coding.subsampling == written
    assert codecs.decode_photo(codecs.encode_photo(photo, "jpeg", quality=90), LIMIT).coding.subsampling == 2


def test_where_nothing_changes_and_of_a_lossless_picture_no_pixel_may_change():
    """Whoever keeps red, green and blue as they are, without a matrix, is lossless."""
    assert codecs.format_of(avif(), changed=False) == "png"
    place = avif().index(b"colrnclx") + 12
    lossless = avif()[:place] + b"\0\0" + avif()[place + 2 :]
    assert codecs.format_of(lossless) == "png"
    assert codecs.format_of(encoded(PICTURE, "JPEG"), changed=False) == "jpeg"


def test_items_that_share_their_bytes_are_not_copied(monkeypatch: pytest.MonkeyPatch):
    """A thousand items of 20 kB that are all the same would be 20 MB, of 10 MB ten gigabytes."""
    monkeypatch.setattr(isobmff, "_payload", lambda *_: pytest.fail("bytes were copied"))
    entries = b"".join(box(b"infe", b"\2\0\0\0" + struct.pack(">HH4s", number, 0, b"av01")) for number in range(1100))
    places = b"".join(struct.pack(">HHHII", number, 0, 1, 0, 20_000) for number in range(1100))
    meta = box(b"iinf", bytes(4) + struct.pack(">H", 1100) + entries)
    meta += box(b"iloc", bytes(4) + b"\x44\0" + struct.pack(">H", 1100) + places)
    with pytest.raises(ImageTooLargeError, match="bytes of coded data"):
        codecs.decode(HEAD + box(b"meta", bytes(4) + meta) + bytes(30_000), LIMIT)
