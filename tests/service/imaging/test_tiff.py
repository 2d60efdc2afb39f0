"""TIFF: what is read, and what is refused before it costs anything."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from service.errors import BrokenImageError, ImageTooLargeError, UnsupportedImageError
from service.imaging import codecs, xmp
from tests.service.fakes import encoded
from tests.service.imaging import jpegs, profiles
from tests.service.imaging.samples import LIMIT, PICTURE, PIXELS, SMOOTH, decoded, translucent

DEEP = (PIXELS.astype(np.uint16) << 8) + 0x35


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "LA"])
def test_tiff_is_read_pixel_for_pixel(mode: str, compression: str | None):
    image = {"RGBA": translucent(), "LA": translucent(PICTURE.convert("L")), "P": PICTURE.quantize(20)}.get(mode)
    image = image or PICTURE.convert(mode)
    data = encoded(image, "TIFF", compression=compression, dpi=(300, 200))
    photo = codecs.decode_photo(data, LIMIT)
    assert np.array_equal(photo.image, np.asarray(image.convert("RGBA"))[:, :, :3])
    assert (photo.alpha is not None) == mode.endswith("A")
    assert photo.greyscale == (mode in ("L", "1", "LA"))
    assert photo.dpi == (300, 200)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_in_tiff_is_read(mode: str):
    data = encoded(SMOOTH.convert(mode), "TIFF", compression="jpeg", quality=95)
    assert abs(decoded(data).astype(int) - np.asarray(SMOOTH.convert(mode).convert("RGB"))).mean() < 4


def directory(order: str, entries: list[tuple[int, int, list[int]]], pixels: bytes) -> bytes:
    """A TIFF of one strip: tag, type (3: 16 bits, 4: 32) and values of each entry but its place and length."""
    entries = sorted([*entries, (273, 4, [8]), (279, 4, [len(pixels)])])
    letter, place = ("<", b"II*\0") if order == "little" else (">", b"MM\0*")
    body, start = b"", 8 + len(pixels) + 2 + 12 * len(entries) + 4
    listed = struct.pack(f"{letter}H", len(entries))
    for tag, kind, values in entries:
        packed = struct.pack(f"{letter}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        value = packed.ljust(4, b"\0")
        if len(packed) > 4:
            value = struct.pack(f"{letter}I", start + len(body))
            body += packed
        listed += struct.pack(f"{letter}HHI", tag, kind, len(values)) + value
    return place + struct.pack(f"{letter}I", 8 + len(pixels)) + pixels + listed + bytes(4) + body


def deep(order: str, channels: int, photometric: int, levels: np.ndarray) -> bytes:
    height, width = levels.shape[:2]
    stored = levels.astype("<u2" if order == "little" else ">u2").tobytes()
    entries = [(256, 4, [width]), (257, 4, [height]), (258, 3, [16] * channels), (259, 3, [1]), (262, 3, [photometric])]
    return directory(order, [*entries, (277, 3, [channels]), (278, 4, [height])], stored)


@pytest.mark.parametrize("order", ["little", "big"])
def test_sixteen_bits_of_a_tiff_become_the_upper_eight(order: str):
    assert np.array_equal(decoded(deep(order, 3, 2, DEEP)), PIXELS)
    found = codecs.decode_photo(deep(order, 1, 1, DEEP[:, :, 0]), LIMIT)
    assert np.array_equal(np.asarray(found.image)[:, :, 0], PIXELS[:, :, 0])
    assert found.greyscale


def test_sixteen_bits_of_which_zero_is_white_are_inverted():
    assert np.array_equal(decoded(deep("little", 1, 0, DEEP[:, :, 0]))[:, :, 0], 255 - PIXELS[:, :, 0])


def test_inks_of_a_tiff_are_converted_by_their_profile():
    inks = Image.new("CMYK", (9, 9), (255, 0, 0, 0))
    assert decoded(encoded(inks, "TIFF"))[4, 4].tolist() == [0, 255, 255]
    found = decoded(encoded(inks, "TIFF", icc_profile=profiles.press(nodes=9)))[4, 4]
    assert found.tolist() == pytest.approx([0, 164, 232], abs=4)


def test_lab_becomes_rgb():
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    lab = ImageCms.applyTransform(SMOOTH, to_lab)
    assert abs(decoded(encoded(lab, "TIFF")).astype(int) - np.asarray(SMOOTH)).mean() < 3


def test_orientation_profile_and_packet_of_a_tiff():
    packet = xmp.packet(xmp.Mark(system="S"))
    data = encoded(PICTURE, "TIFF", icc_profile=profiles.srgb(), tiffinfo={274: 6, 700: packet})
    photo = codecs.decode_photo(data, LIMIT)
    assert np.array_equal(photo.image, np.rot90(PIXELS, -1))
    assert photo.profile == profiles.srgb()
    assert codecs.decode_marked(data, LIMIT)[1] == xmp.Mark(system="S")
    assert codecs.decode_preview(data, LIMIT, 10)[1] == photo.image.size


def test_of_several_pages_the_first_is_taken():
    data = encoded(PICTURE, "TIFF", save_all=True, append_images=[PICTURE.rotate(180)])
    assert np.array_equal(decoded(data), PIXELS)


@pytest.mark.parametrize("options", [{"compression": "tiff_lzw"}, {"compression": "jpeg", "quality": 95}])
def test_strips(options: dict):
    data = encoded(SMOOTH, "TIFF", tiffinfo={278: 8}, **options)
    assert abs(decoded(data).astype(int) - np.asarray(SMOOTH)).mean() < 4


def test_tiles():
    padded = np.pad(PIXELS, ((0, 8), (0, 2), (0, 0)))
    tiles = padded.reshape(3, 16, 2, 16, 3).swapaxes(1, 2).tobytes()
    entries = [(256, 4, [30]), (257, 4, [40]), (258, 3, [8, 8, 8]), (259, 3, [1]), (262, 3, [2]), (277, 3, [3])]
    entries += [(322, 3, [16]), (323, 3, [16]), (324, 4, [8 + 768 * n for n in range(6)]), (325, 4, [768] * 6)]
    data = directory("little", entries, tiles)
    assert np.array_equal(decoded(data), PIXELS)
    with pytest.raises(BrokenImageError, match="number of strips or tiles"):
        codecs.decode(
            data.replace(struct.pack("<HHI", 322, 3, 1) + b"\x10", struct.pack("<HHI", 322, 3, 1) + b"\x20"), LIMIT
        )
    huge = [entry for entry in entries if entry[0] < 322]
    huge += [(322, 4, [65_536]), (323, 4, [65_536]), (324, 4, [8]), (325, 4, [768])]
    with pytest.raises(BrokenImageError, match="too large for it"):
        codecs.decode(directory("little", huge, tiles), LIMIT)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.new("F", (9, 9)), "TIFF"),
        encoded(Image.new("I", (9, 9)), "TIFF"),
        encoded(PICTURE, "TIFF", compression="lzma"),
        encoded(PICTURE, "TIFF", compression="zstd"),
        encoded(PICTURE, "TIFF", tiffinfo={254: 1}),
        encoded(PICTURE, "TIFF", tiffinfo={50706: b"\1\4\0\0"}),
        deep("little", 5, 2, np.zeros((4, 4, 5))),
        b"II+\0\x08\0\0\0" + bytes(99),
    ],
    ids=["float", "32 bits", "LZMA", "zstd", "a preview", "DNG", "five channels", "BigTIFF"],
)
def test_tiffs_that_are_not_accepted_are_unsupported(data: bytes):
    with pytest.raises(UnsupportedImageError):
        codecs.decode(data, LIMIT)


def changed(tag: int, values: list[int]) -> bytes:
    """A TIFF of PICTURE with other values of a tag."""
    entries = {
        256: (4, [30]), 257: (4, [40]), 258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [2]), 277: (3, [3]), 278: (4, [40])
    }  # fmt: skip
    entries[tag] = (4, values)
    return directory("little", [(name, *entry) for name, entry in entries.items()], PIXELS.tobytes())


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (changed(256, [2_000_000]), ImageTooLargeError),
        (changed(256, [0]), BrokenImageError),
        (changed(278, [1]), BrokenImageError),
        (changed(278, [0]), BrokenImageError),
        (changed(258, [8] * 30_000), BrokenImageError),
        (changed(284, [2]), BrokenImageError),
    ],
)
def test_a_tiff_whose_numbers_cannot_be_is_refused(data: bytes, error: type[Exception]):
    with pytest.raises(error):
        codecs.decode(data, LIMIT)


@pytest.mark.usefixtures("undecoded")
def test_strips_without_end_or_over_each_other_are_refused():
    many = directory("little", [(256, 4, [1]), (257, 4, [30_000]), (278, 4, [1])], bytes(30_000))
    with pytest.raises(BrokenImageError, match="strips"):
        codecs.decode(many, LIMIT)
    data = encoded(PICTURE, "TIFF", compression="tiff_lzw", tiffinfo={278: 10})
    image = Image.open(io.BytesIO(data))
    (lengths,) = [image.tag_v2[279]]
    assert len(lengths) == 4
    packed = struct.pack("<4I", *lengths) if struct.pack("<4I", *lengths) in data else struct.pack("<4H", *lengths)
    size = "<4I" if len(packed) == 16 else "<4H"
    with pytest.raises(BrokenImageError, match="overlap"):
        codecs.decode(data.replace(packed, struct.pack(size, *[len(data) - 10] * 4)), LIMIT)


@pytest.mark.usefixtures("undecoded")
def test_scans_of_jpegs_in_a_tiff_are_counted():
    parts = jpegs.progressive((64, 48))
    bomb = parts.whole(*[parts.scans[-1]] * 150)
    entries = [(256, 4, [64]), (257, 4, [48]), (258, 3, [8, 8, 8]), (259, 3, [7]), (262, 3, [6]), (277, 3, [3])]
    with pytest.raises(BrokenImageError, match="more than 100 scans"):
        codecs.decode(directory("little", [*entries, (278, 4, [48])], bomb), LIMIT)


@pytest.mark.parametrize("end", [8, 100, 3000])
def test_a_tiff_that_is_cut_is_broken(end: int):
    with pytest.raises(BrokenImageError):
        codecs.decode(encoded(PICTURE, "TIFF")[:end], LIMIT)
