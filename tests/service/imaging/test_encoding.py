"""Photographs as files again: encoded as they were, marked where nothing changed, and without what tells of people."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from service.errors import UnencodableError
from service.imaging import codecs, xmp
from service.imaging.codecs import encoding
from service.imaging.codecs.photo import Photo
from tests.service.fakes import encoded
from tests.service.imaging import jpegs, pngs, profiles

LIMIT = 1_000_000
MARK = xmp.Mark(system="S")
PACKET = xmp.packet(MARK)
PIXELS = np.asarray(Image.effect_noise((90, 70), 60).convert("RGB")).copy()
PIXELS[:, :, 0] //= 2
PICTURE = Image.fromarray(PIXELS)
SMOOTH = PICTURE.resize((9, 7)).resize((90, 70), Image.Resampling.BICUBIC)
GPS, CAMERA = 0x8825, 0x010F


def exif(orientation: int = 1) -> Image.Exif:
    found = Image.Exif()
    found[0x0112], found[CAMERA] = orientation, "a camera"
    found.get_ifd(GPS)[1] = "N"
    return found


def translucent() -> Image.Image:
    image = PICTURE.copy()
    image.putalpha(Image.linear_gradient("L").resize(PICTURE.size))
    return image


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def again(data: bytes, kind: codecs.OutputFormat, **options) -> bytes:
    return codecs.encode_photo(codecs.decode_photo(data, LIMIT), kind, packet=PACKET, **options)


def shown(data: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(opened(data)))


def mark(data: bytes) -> xmp.Mark | None:
    return xmp.read(opened(data), data)


# ---- files of unchanged photographs

DEEP = pngs.png(np.arange(300).reshape(10, 10, 3) * 200, 16, 2, pngs.chunk(b"gAMA", b"\0\0\xb1\x8f"))
UNCHANGED = {
    "JPEG": ("jpeg", encoded(PICTURE, "JPEG", quality=98, subsampling=0)),
    "progressive JPEG": ("jpeg", encoded(PICTURE, "JPEG", progressive=True, subsampling=1)),
    "grey JPEG": ("jpeg", encoded(PICTURE.convert("L"), "JPEG")),
    "CMYK JPEG": ("jpeg", encoded(PICTURE.convert("CMYK"), "JPEG", icc_profile=profiles.press())),
    "JPEG of RGB": ("jpeg", encoded(PICTURE, "JPEG", keep_rgb=True)),
    "PNG": ("png", encoded(PICTURE, "PNG")),
    "deep PNG": ("png", DEEP),
    "palette PNG": ("png", encoded(PICTURE.quantize(9), "PNG", transparency=3)),
    "WebP": ("webp", encoded(PICTURE, "WEBP", quality=60)),
    "translucent WebP": ("webp", encoded(translucent(), "WEBP", quality=60)),
    "lossless WebP": ("webp", encoded(PICTURE, "WEBP", lossless=True)),
    "lossless translucent WebP": ("webp", encoded(translucent(), "WEBP", lossless=True, exact=True)),
    "WebP with a profile": ("webp", encoded(PICTURE, "WEBP", icc_profile=profiles.srgb())),
}


@pytest.mark.parametrize(("kind", "data"), UNCHANGED.values(), ids=UNCHANGED.keys())
def test_an_unchanged_file_keeps_its_pixels_and_gets_the_mark(kind: codecs.OutputFormat, data: bytes):
    found = codecs.marked(data, kind, PACKET)
    assert mark(found) == MARK
    assert opened(found).format == opened(data).format
    assert opened(found).mode == opened(data).mode
    assert np.array_equal(shown(found), shown(data))
    assert opened(found).info.get("icc_profile") == opened(data).info.get("icc_profile")
    assert len(found) < len(data) + len(PACKET) + 100
    assert mark(codecs.marked(found, kind, xmp.packet(xmp.Mark(system="T")))) == xmp.Mark(system="T")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_of_an_unchanged_file_orientation_and_resolution_stay_and_all_else_that_exif_tells_goes(
    kind: codecs.OutputFormat, orientation: int
):
    told = exif(orientation)
    told[0x011A], told[0x011B], told[0x0128] = 300.0, 300.0, 2
    data = encoded(PICTURE, kind.upper(), exif=told)
    found = codecs.marked(data, kind, PACKET)
    left = opened(found).getexif()
    assert set(left) <= {0x0112, 0x011A, 0x011B, 0x0128}
    assert left.get(0x0112, 1) == orientation
    assert left[0x011A] == 300
    assert np.array_equal(shown(found), shown(data))
    assert b"a camera" not in found


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_an_unchanged_file_may_keep_its_exif_data(kind: codecs.OutputFormat):
    data = encoded(PICTURE, kind.upper(), exif=exif(6))
    found = codecs.marked(data, kind, PACKET, keep_metadata=True)
    assert opened(found).info["exif"] == opened(data).info["exif"]
    assert opened(found).getexif().get_ifd(GPS)[1] == "N"
    assert mark(found) == MARK


def test_of_an_unchanged_file_comments_texts_and_what_stands_behind_it_go():
    jpeg = encoded(PICTURE, "JPEG", comment=b"a secret") + b"a secret film"
    jpeg = jpegs.with_segments(jpeg, jpegs.segment(0xED, b"Photoshop 3.0\0a secret"), jpegs.segment(0xEB, b"a secret"))
    png = pngs.with_chunks(encoded(PICTURE, "PNG"), pngs.chunk(b"tEXt", b"Comment\0a secret")) + b"a secret film"
    for kind, data in (("jpeg", jpeg), ("png", png)):
        found = codecs.marked(data, kind, PACKET)
        assert b"secret" not in found
        assert np.array_equal(shown(found), shown(data))


def test_a_thumbnail_in_the_header_of_an_unchanged_jpeg_goes_and_the_resolution_stays():
    plain = encoded(PICTURE, "JPEG", dpi=(300, 200))
    header = plain[4:18] + bytes([9, 9]) + b"secret" * 41  # 3 * 9 * 9 bytes, and a few more
    data = plain[:2] + jpegs.segment(0xE0, header[2:]) + plain[20:]
    assert opened(data).info["dpi"] == (300, 200)
    found = codecs.marked(data, "jpeg", PACKET)
    assert b"secret" not in found
    assert opened(found).info["dpi"] == (300, 200)
    assert np.array_equal(shown(found), shown(data))


def test_of_several_blocks_of_exif_data_the_first_counts():
    data = encoded(PICTURE, "PNG", exif=exif(6))
    second = pngs.chunk(b"eXIf", exif(3).tobytes().removeprefix(b"Exif\0\0"))
    data = data[:-12] + second + data[-12:]
    expected = np.asarray(codecs.decode(data, LIMIT))
    assert expected.shape == (90, 70, 3)
    assert np.array_equal(codecs.decode(codecs.marked(data, "png", PACKET), LIMIT), expected)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_an_orientation_in_xmp_alone_is_none(kind: codecs.OutputFormat):
    packet = PACKET.replace(
        b"<rdf:Description", b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"'
    )
    data = codecs.marked(encoded(PICTURE, kind.upper()), kind, packet)
    assert codecs.decode(data, LIMIT).size == PICTURE.size
    assert codecs.decode_marked(data, LIMIT)[1] == MARK
    assert np.array_equal(codecs.decode(codecs.marked(data, kind, PACKET), LIMIT), codecs.decode(data, LIMIT))


def test_an_unchanged_jpeg_without_its_end_gets_one():
    data = encoded(PICTURE, "JPEG")
    assert codecs.marked(data[:-2], "jpeg", PACKET) == codecs.marked(data, "jpeg", PACKET)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_an_animation_is_no_file_of_its_first_frame(kind: codecs.OutputFormat):
    data = encoded(PICTURE, kind.upper(), save_all=True, append_images=[PICTURE.rotate(90)], duration=50)
    assert codecs.marked(data, kind, PACKET) is None


@pytest.mark.parametrize(("stored", "kind"), [("GIF", "png"), ("JPEG", "png"), ("PNG", "jpeg"), ("JPEG", "webp")])
def test_a_file_of_another_format_is_none_to_be_marked(stored: str, kind: codecs.OutputFormat):
    assert codecs.marked(encoded(PICTURE, stored), kind, PACKET) is None


# ---- files of edited photographs


@pytest.mark.parametrize("quality", [20, 75, 98])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"keep_rgb": True}])
def test_a_jpeg_keeps_its_tables_and_its_subsampling(quality: int, options: dict):
    data = encoded(SMOOTH, "JPEG", quality=quality, **options)
    found = opened(again(data, "jpeg"))
    assert found.quantization == opened(data).quantization
    assert [layer[1:] for layer in found.layer] == [layer[1:] for layer in opened(data).layer]
    difference = abs(shown(again(data, "jpeg")).astype(int) - shown(data))
    assert difference.mean() < 1.5  # it is rounded once more


def test_a_grey_jpeg_keeps_its_table():
    data = encoded(PICTURE.convert("L"), "JPEG", quality=98)
    found = opened(again(data, "jpeg"))
    assert (found.mode, found.quantization) == ("L", opened(data).quantization)


@pytest.mark.parametrize(
    ("factors", "written"), [((2, 2), 2), ((2, 1), 1), ((1, 2), 0), ((4, 1), 1), ((4, 2), 2), ((1, 1), 0)]
)
def test_of_samplings_that_cannot_be_written_it_is_the_next_finer_one(factors: tuple[int, int], written: int):
    data = encoded(Image.new("RGB", (64, 64)), "JPEG", subsampling=0)
    place = data.index(b"\xff\xc0") + 11
    assert data[place] == 0x11
    coding = codecs.decoding._opened(data[:place] + bytes([factors[0] << 4 | factors[1]]) + data[place + 1 :], LIMIT)
    assert coding.prepared.coding(coding.image).subsampling == written


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_quality_that_is_requested_is_that(kind: codecs.OutputFormat):
    data = encoded(PICTURE, kind.upper(), quality=98, **({"lossless": True} if kind == "webp" else {}))
    assert again(data, kind, quality=30) == again(encoded(opened(data), "PNG"), kind, quality=30)


@pytest.mark.parametrize("picture", [PICTURE, translucent()], ids=["opaque", "translucent"])
def test_a_lossless_webp_stays_lossless(picture: Image.Image):
    data = encoded(picture, "WEBP", lossless=True, exact=True)
    found = again(data, "webp")
    assert np.array_equal(shown(found), np.asarray(picture))
    assert mark(found) == MARK
    animated = encoded(picture, "WEBP", lossless=True, exact=True, save_all=True, append_images=[picture.rotate(90)])
    assert np.array_equal(shown(again(animated, "webp")), np.asarray(picture))
    lossy = again(encoded(PICTURE, "WEBP", quality=60), "webp")
    assert b"VP8L" not in lossy


def test_transparency_of_a_webp_is_compressed():
    opaque, whole = (Image.effect_noise((256, 256), 9).convert(mode) for mode in ("RGB", "RGBA"))
    whole.putalpha(Image.linear_gradient("L"))  # 64 kB as it is
    sizes = [len(again(encoded(image, "WEBP"), "webp")) for image in (opaque, whole)]
    assert sizes[1] < sizes[0] + 3000


@pytest.mark.parametrize("stored", ["PNG", "GIF"])
def test_what_was_lossless_in_another_format_is_lossless_png(stored: str):
    data = encoded(PICTURE, stored)
    assert codecs.format_of(data) == "png"
    assert np.array_equal(shown(again(data, "png")), np.asarray(opened(data).convert("RGB")))


# ---- metadata


@pytest.mark.parametrize("stored", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize("dpi", [(300, 300), (72, 144)])
def test_the_resolution_survives(stored: str, kind: codecs.OutputFormat, dpi: tuple[int, int]):
    told = Image.Exif()
    told[0x011A], told[0x011B], told[0x0128] = (*map(float, dpi), 2)
    data = encoded(PICTURE, stored, **({"exif": told} if stored == "WEBP" else {"dpi": dpi}))
    assert codecs.decode_photo(data, LIMIT).dpi == pytest.approx(dpi, abs=0.02)
    found = opened(again(data, kind))
    told = found.getexif()
    assert found.info.get("dpi", (told.get(0x011A), told.get(0x011B))) == pytest.approx(dpi, abs=0.02)


@pytest.mark.parametrize("dpi", [(0, 0), (1e9, 1e9), (0.001, 300)])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_a_resolution_that_cannot_be_is_none(dpi: tuple[float, float], kind: codecs.OutputFormat):
    metres = [min(2**32 - 1, round(value / 0.0254)).to_bytes(4, "big") for value in dpi]
    data = pngs.with_chunks(encoded(PICTURE, "PNG"), pngs.chunk(b"pHYs", b"".join(metres) + b"\1"))
    assert codecs.decode_photo(data, LIMIT).dpi is None
    assert opened(again(data, kind)).size == PICTURE.size


@pytest.mark.parametrize("stored", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_exif_data_are_dropped_unless_they_are_requested(stored: str, kind: codecs.OutputFormat):
    data = encoded(PICTURE, stored, exif=exif(6))
    assert b"a camera" not in again(data, kind)
    assert set(opened(again(data, kind)).getexif()) <= {0x011A, 0x011B, 0x0128}
    found = opened(again(data, kind, keep_metadata=True))
    assert found.getexif()[CAMERA] == "a camera"
    assert found.getexif().get_ifd(GPS)[1] == "N"
    assert 0x0112 not in found.getexif()
    assert found.size == PICTURE.size[::-1]


def test_a_thumbnail_shows_what_was_before_and_goes():
    thumbnail = encoded(PICTURE.resize((16, 12)), "JPEG")
    block = bytearray(exif().tobytes())
    ifd = len(block) - 6  # from the header of the TIFF file
    entries = [(0x0201, ifd + 30), (0x0202, len(thumbnail))]
    endian = "little" if block[6:8] == b"II" else "big"

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, endian)

    block += number(2, 2) + b"".join(number(tag, 2) + number(4, 2) + number(1, 4) + number(v, 4) for tag, v in entries)
    block += number(0, 4) + thumbnail
    first = int.from_bytes(block[10:14], endian) + 6
    end = first + 2 + 12 * int.from_bytes(block[first : first + 2], endian)
    block[end : end + 4] = number(ifd, 4)
    data = encoded(PICTURE, "JPEG", exif=bytes(block))
    assert thumbnail in data
    assert opened(data).getexif().get_ifd(ExifTags.IFD.IFD1)
    found = again(data, "jpeg", keep_metadata=True)
    assert thumbnail not in found
    assert opened(found).getexif()[CAMERA] == "a camera"


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_exif_data_that_no_segment_holds_are_dropped(kind: codecs.OutputFormat):
    told = exif()
    told.get_ifd(0x8769)[0x927C] = bytes(70_000)
    data = encoded(PICTURE, "PNG", exif=told)
    assert opened(again(data, kind, keep_metadata=True)).size == PICTURE.size


# ---- what formats cannot hold


@pytest.mark.parametrize(("kind", "side"), [("webp", 16_384), ("jpeg", 65_501)])
def test_a_side_that_the_format_cannot_hold_is_told(kind: codecs.OutputFormat, side: int):
    for size in ((side, 1), (1, side)):
        with pytest.raises(UnencodableError, match=f"{size[0]} x {size[1]} .* at most {side - 1}") as caught:
            codecs.encode_photo(Photo(Image.new("RGB", size), None, None), kind)
        assert caught.value.status == 422
        with pytest.raises(UnencodableError):
            codecs.encode(np.zeros((*size[::-1], 3), np.uint8), kind)
    assert opened(codecs.encode_photo(Photo(Image.new("RGB", (side - 1, 1)), None, None), kind)).width == side - 1


@pytest.mark.parametrize(("fits", "quality", "written"), [(60, None, 60), (85, 95, 80), (50, 50, 50)])
def test_where_a_webp_has_too_much_detail_its_quality_is_lowered(
    monkeypatch: pytest.MonkeyPatch, fits: int, quality: int | None, written: int
):
    tried, write = [], encoding._written

    def full(image: Image.Image, kind: str, options: dict) -> bytes:
        tried.append(options["quality"])
        if options["quality"] > fits:
            raise ValueError("encoding error 6")
        return write(image, kind, options)

    monkeypatch.setattr(encoding, "_written", full)
    photo = Photo(PICTURE, None, None)
    assert opened(codecs.encode_photo(photo, "webp", quality)).format == "WEBP"
    assert tried[-1] == written
    fits = 0
    with pytest.raises(UnencodableError, match="detail"):
        codecs.encode_photo(photo, "webp", quality)
