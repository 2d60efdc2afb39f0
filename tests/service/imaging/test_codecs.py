"""Pictures arrive as a viewer would show them, or are refused for a reason."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from service.errors import BrokenImageError, FramingError, ImageTooLargeError, UnsupportedImageError
from service.imaging import codecs
from tests.service.fakes import encoded

LIMIT = 1_000_000
FRAME = SimpleNamespace(image_size=8, aligned_size=(178, 218), crop_box=(15.0, 40.0, 163.0, 188.0))


def noise(width: int = 64, height: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def halves(left: tuple, right: tuple, mode: str = "RGB", size: tuple[int, int] = (20, 10)) -> Image.Image:
    image = Image.new(mode, size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    return image


def decoded(data: bytes) -> np.ndarray:
    image = codecs.decode(data, LIMIT)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_a_png_comes_back_pixel_for_pixel():
    np.testing.assert_array_equal(decoded(encoded(noise(), "PNG")), np.asarray(noise()))


@pytest.mark.parametrize("image_format", codecs.ACCEPTED_FORMATS)
def test_every_accepted_format_decodes(image_format: str):
    found = decoded(encoded(halves((250, 20, 20), (20, 20, 250)), image_format))
    assert found.shape == (10, 20, 3)
    assert abs(found[5, 2].astype(int) - (250, 20, 20)).max() < 40
    assert abs(found[5, 17].astype(int) - (20, 20, 250)).max() < 40


def test_empty_data_is_broken():
    with pytest.raises(BrokenImageError, match="0 bytes"):
        codecs.decode(b"", LIMIT)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_picture_is_broken(image_format: str, kept: float):
    data = encoded(noise(), image_format)
    with pytest.raises(BrokenImageError):
        codecs.decode(data[: int(kept * len(data))], LIMIT)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
@pytest.mark.parametrize("kept", [16, 30])
def test_a_picture_truncated_within_its_header_is_broken_and_not_foreign(image_format: str, kept: int):
    with pytest.raises(BrokenImageError):
        codecs.decode(encoded(noise(), image_format)[:kept], LIMIT)


def test_a_corrupt_png_is_broken():
    data = bytearray(encoded(noise(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(BrokenImageError):
        codecs.decode(bytes(data), LIMIT)


@pytest.mark.parametrize(
    "data", [b"hello, world", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"\0" * 99]
)
def test_what_is_no_picture_is_unsupported(data: bytes):
    with pytest.raises(UnsupportedImageError, match="JPEG, PNG, WEBP, GIF"):
        codecs.decode(data, LIMIT)


@pytest.mark.parametrize("image_format", ["ICO", "PPM", "TGA", "JPEG2000", "DDS", "PCX"])
def test_a_format_that_is_not_accepted_is_unsupported(image_format: str):
    with pytest.raises(UnsupportedImageError):
        codecs.decode(encoded(noise(32, 32), image_format), LIMIT)


def test_each_refusal_has_its_status():
    kinds = (BrokenImageError, ImageTooLargeError, UnsupportedImageError, FramingError)
    assert [kind.status for kind in kinds] == [400, 413, 415, 422]


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50)
    assert (decoded(data) == (255, 0, 0)).all()


def test_sixteen_bit_greyscale_is_scaled_and_not_clipped():
    levels = np.array([[0, 255, 256, 0x8000, 0xFFFF]], dtype=np.uint16)
    found = decoded(encoded(Image.fromarray(levels), "PNG"))
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 1, 128, 255])
    assert (found == found[..., :1]).all()


def test_greyscale_becomes_three_equal_channels():
    found = decoded(encoded(Image.new("L", (5, 5), 77), "PNG"))
    assert (found == 77).all()


def test_black_and_white_becomes_black_and_white():
    found = decoded(encoded(halves(0, 1, "1"), "PNG"))
    assert (found[0, 0] == 0).all()
    assert (found[0, -1] == 255).all()


def test_a_cmyk_jpeg_keeps_its_colours():
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = decoded(encoded(cyan, "JPEG", quality=95))[8, 8].astype(int)
    assert red < 60
    assert green > 150
    assert blue > 150


def test_transparency_lies_over_white():
    image = halves((200, 0, 0, 0), (0, 100, 0, 255), "RGBA")
    image.putpixel((19, 9), (0, 0, 0, 51))
    found = decoded(encoded(image, "PNG"))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, -1].tolist() == [0, 100, 0]
    assert found[9, 19].tolist() == [204, 204, 204]


def test_a_transparent_palette_colour_lies_over_white():
    image = halves(0, 1, "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    found = decoded(encoded(image, "PNG", transparency=0))
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[0, -1].tolist() == [40, 50, 60]


def test_grey_with_transparency_lies_over_white():
    found = decoded(encoded(Image.new("LA", (4, 4), (0, 0)), "PNG"))
    assert (found == 255).all()


UPRIGHT = np.asarray(halves((255, 0, 0), (0, 0, 255), size=(40, 16)))


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, UPRIGHT),
        (2, UPRIGHT[:, ::-1]),
        (3, UPRIGHT[::-1, ::-1]),
        (6, np.rot90(UPRIGHT, 1)),
        (8, np.rot90(UPRIGHT, -1)),
    ],
)
def test_a_rotated_jpeg_comes_upright(orientation: int, stored: np.ndarray):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "JPEG", quality=95, subsampling=0, exif=exif)
    found = decoded(data)
    assert found.shape == UPRIGHT.shape
    assert abs(found.astype(int) - UPRIGHT).mean() < 5


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # what Pillow has to say about it
@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0garbage in here", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_broken_exif_is_ignored(exif: bytes):
    assert decoded(encoded(noise(), "JPEG", exif=exif)).shape == (48, 64, 3)


def png_header_of(width: int, height: int) -> bytes:
    """A tiny PNG whose header lies about its size."""
    data = bytearray(encoded(Image.new("RGB", (2, 2)), "PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


@pytest.mark.parametrize("size", [(10_000, 5_000), (2**31 - 1, 2**31 - 1), (1, LIMIT + 1)])
def test_a_pixel_bomb_is_refused_by_its_header_without_allocating(size: tuple[int, int]):
    data = png_header_of(*size)
    tracemalloc.start()
    try:
        with pytest.raises(ImageTooLargeError, match=f"{size[0]} x {size[1]}|too many pixels"):
            codecs.decode(data, LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


def test_a_well_formed_bomb_is_refused():
    rows = zlib.compress(bytes(10_000 // 8 + 1) * 5_000, 9)
    header = struct.pack(">IIBBBBB", 10_000, 5_000, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    assert len(data) < 20_000
    with pytest.raises(ImageTooLargeError, match="50000000 pixels; at most 1000000"):
        codecs.decode(data, LIMIT)


def test_exactly_the_limit_is_accepted():
    assert codecs.decode(encoded(Image.new("L", (40, 25)), "PNG"), 1000).size == (40, 25)
    with pytest.raises(ImageTooLargeError):
        codecs.decode(encoded(Image.new("L", (41, 25)), "PNG"), 1000)


def test_cropping_the_whole_picture_at_its_size_changes_nothing():
    picture = noise(32, 32)
    np.testing.assert_array_equal(codecs.crop_resize(picture, (0, 0, 32, 32), 32), np.asarray(picture))


def test_a_box_of_whole_pixels_is_that_part_of_the_picture():
    picture = noise(32, 32)
    np.testing.assert_array_equal(codecs.crop_resize(picture, (4, 8, 20, 24), 16), np.asarray(picture)[8:24, 4:20])


def test_shrinking_averages_instead_of_skipping():
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32))).convert("RGB")
    assert abs(codecs.crop_resize(stripes, (0, 0, 64, 64), 8).astype(int) - 127).max() < 10


def test_beyond_the_borders_the_border_pixels_continue():
    picture = halves((10, 10, 10), (200, 200, 200), size=(8, 8))
    found = codecs.crop_resize(picture, (-8, -8, 16, 16), 24)
    assert found.shape == (24, 24, 3)
    assert (found[:, :10] == 10).all()
    assert (found[:, 14:] == 200).all()


@pytest.mark.parametrize(
    "box", [(-3.5, 0, 4.5, 8), (0, -3.5, 8, 4.5), (4, 0, 12, 8), (0, 4, 8, 12), (-20, -20, 28, 28)]
)
def test_a_flat_picture_stays_flat_wherever_the_box_lies(box: tuple[float, float, float, float]):
    found = codecs.crop_resize(Image.new("RGB", (8, 8), (9, 90, 190)), box, 5)
    assert (found == (9, 90, 190)).all()


def test_an_aligned_picture_is_cropped_to_the_frame():
    picture = noise(178, 218)
    face, box = codecs.framed_face(picture, FRAME)
    assert box == FRAME.crop_box
    np.testing.assert_array_equal(face, codecs.crop_resize(picture, FRAME.crop_box, 8))


def test_an_aligned_picture_of_another_size_is_cropped_in_proportion():
    face, box = codecs.framed_face(noise(356, 436), FRAME)
    assert box == pytest.approx((30, 80, 326, 376))
    assert face.shape == (8, 8, 3)


def test_a_square_picture_is_the_crop_itself():
    picture = noise(50, 50)
    face, box = codecs.framed_face(picture, FRAME)
    assert box == (0, 0, 50, 50)
    np.testing.assert_array_equal(face, codecs.crop_resize(picture, box, 8))


@pytest.mark.parametrize("size", [(218, 178), (100, 200), (640, 480), (51, 50), (1, 60)])
def test_other_proportions_are_refused_with_both_sizes(size: tuple[int, int]):
    with pytest.raises(FramingError, match=f"{size[0]} x {size[1]} .*178 x 218"):
        codecs.framed_face(Image.new("RGB", size), FRAME)


def test_a_rounding_error_in_the_proportions_is_accepted():
    assert codecs.framed_face(Image.new("RGB", (179, 218)), FRAME)[0].shape == (8, 8, 3)


def test_png_is_lossless():
    pixels = np.asarray(noise())
    np.testing.assert_array_equal(decoded(codecs.encode(pixels, "png", quality=1)), pixels)


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_encoded_bytes_are_of_the_requested_format(image_format: codecs.OutputFormat):
    data = codecs.encode(np.full((9, 7, 3), 128, np.uint8), image_format)
    image = Image.open(io.BytesIO(data))
    assert image.format == image_format.upper()
    assert image.size == (7, 9)
    assert abs(np.asarray(image.convert("RGB")).astype(int) - 128).max() <= 2


@pytest.mark.parametrize("image_format", ["jpeg", "webp"])
def test_lower_quality_makes_fewer_bytes(image_format: codecs.OutputFormat):
    pixels = np.asarray(noise())
    assert len(codecs.encode(pixels, image_format, 10)) < len(codecs.encode(pixels, image_format, 95))


def flat_pictures(count: int) -> np.ndarray:
    return np.stack([np.full((3, 2, 3), 10 * (i + 1), np.uint8) for i in range(count)])


@pytest.mark.parametrize(
    ("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (5, 2, 3), (9, 3, 3)]
)
def test_a_grid_is_near_square(count: int, rows: int, columns: int):
    assert codecs.grid(flat_pictures(count)).shape == (3 * rows, 2 * columns, 3)


def test_a_grid_fills_row_by_row_and_leaves_blanks_white():
    sheet = codecs.grid(flat_pictures(3))
    assert sheet[::3, ::2, 0].tolist() == [[10, 20], [30, 255]]
    assert (sheet[:3, :2] == 10).all()
    assert (sheet[3:, 2:] == 255).all()


def test_the_columns_of_a_grid_can_be_chosen():
    assert codecs.grid(flat_pictures(3), columns=3)[::3, ::2, 0].tolist() == [[10, 20, 30]]


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_preview_of_a_large_jpeg_is_smaller_and_knows_the_whole_size(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient = Image.fromarray(np.tile(np.linspace(0, 255, 3000).astype(np.uint8), (1200, 1))).convert("RGB")
    buffer = io.BytesIO()
    gradient.save(buffer, "JPEG", exif=exif)
    preview, size = codecs.decode_preview(buffer.getvalue(), 10**8, longest=800)
    whole = codecs.decode(buffer.getvalue(), 10**8)
    assert size == whole.size
    assert 800 <= max(preview.size) < 1600
    assert preview.width / preview.height == pytest.approx(whole.width / whole.height, rel=0.01)
    small = np.asarray(whole.resize(preview.size, Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(preview).astype(int) - small).max() < 6


@pytest.mark.parametrize(("kind", "longest"), [("PNG", 20), ("JPEG", 60)])
def test_a_preview_of_any_other_picture_is_the_picture(kind, longest):
    buffer = io.BytesIO()
    noise(50, 40).save(buffer, kind)
    preview, size = codecs.decode_preview(buffer.getvalue(), 10**6, longest)
    assert size == preview.size == (50, 40)


def test_a_palette_picture_without_its_palette_is_broken():
    data = encoded(Image.new("RGB", (8, 8), "red").quantize(4), "PNG", transparency=0)
    start = data.index(b"PLTE") - 4
    (length,) = struct.unpack_from(">I", data, start)
    without = data[:start] + data[start + 12 + length :]
    for decode in (codecs.decode, codecs.decode_photo):
        with pytest.raises(BrokenImageError, match="palette"):
            decode(without, 100)


@pytest.mark.parametrize("step", ["open", "load"])
def test_a_machine_without_memory_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch, step: str):
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    data = encoded(Image.new("RGB", (8, 8)), "PNG")
    target = "PIL.Image.open" if step == "open" else "PIL.ImageFile.ImageFile.load"
    monkeypatch.setattr(target, fails)
    with pytest.raises(MemoryError):
        codecs.decode(data, 100)


@pytest.mark.parametrize("box", [(-3000, -3000, 6000, 6000), (2000, 1500, 9000, 8500)])
def test_far_outside_a_picture_few_pixels_are_made_of_its_border(box: tuple[int, ...], monkeypatch: pytest.MonkeyPatch):
    """A hostile picture has a hundred places that look like a face larger than itself."""
    made, pad = [], np.pad
    monkeypatch.setattr(np, "pad", lambda *a, **k: made.append(pad(*a, **k)) or made[-1])
    found = codecs.resample(Image.new("RGB", (3000, 2000), (9, 99, 199)), box, (192, 192))
    assert (found == (9, 99, 199)).all()
    assert made[0].size < 3 * 600**2
