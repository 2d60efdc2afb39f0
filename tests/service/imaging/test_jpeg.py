"""JPEG files with too much in them, with something behind them, and with too little at their end."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageFile

from service.errors import BrokenImageError, ImageTooLargeError, UnsupportedImageError
from service.imaging import codecs
from service.imaging.codecs import jpeg
from tests.service.fakes import encoded
from tests.service.imaging import jpegs
from tests.service.imaging.jpegs import END, segment, with_segments

LIMIT = 2**26
LARGE = (8192, 8192)
MULTI_PICTURE = segment(0xE2, b"MPF\0" + bytes(40))
STEREO = segment(0xE3, b"_JPSJPS_" + bytes(8))


def noise(width: int = 128, height: int = 160, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(), mode)


@pytest.fixture
def undecoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pixel is decoded: what is refused costs nothing."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("pixels were decoded"))


# ---- scans


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("container", [(), (MULTI_PICTURE,), (STEREO,)], ids=["plain", "multi-picture", "stereo"])
@pytest.mark.parametrize(("scans", "size"), [(150, (64, 48)), (95, (64, 48)), (10, LARGE)])
def test_scans_that_cost_too_much_are_refused_in_every_container(container: tuple, scans: int, size: tuple[int, int]):
    parts = jpegs.progressive()
    data = with_segments(jpegs.of_size(parts.whole(*[parts.scans[-1]] * scans), *size), *container)
    with pytest.raises(BrokenImageError, match="scans"):
        codecs.decode(data, LIMIT)


@pytest.mark.usefixtures("undecoded")
def test_scans_of_the_first_of_several_pictures_are_counted():
    parts = jpegs.progressive()
    several = encoded(noise(), "MPO", save_all=True, append_images=[noise()])
    with pytest.raises(BrokenImageError, match="more than 100 scans"):
        codecs.decode(parts.whole(*[parts.scans[-1]] * 150) + several, LIMIT)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_sound_progressive_picture_of_the_largest_size_is_let_through(subsampling: int):
    data = jpegs.of_size(jpegs.progressive(subsampling=subsampling).whole(), *LARGE)
    assert jpeg.parse(data, LIMIT).size == LARGE


def test_of_a_picture_that_is_cut_the_scans_may_cost_half():
    """It may be decoded twice."""
    data = jpegs.of_size(jpegs.progressive().whole(), *LARGE)
    assert jpeg.prepared(data, LIMIT).data
    with pytest.raises(BrokenImageError, match="truncated"):
        jpeg.prepared(data[:-2], LIMIT)


def test_what_scans_cost_is_bounded_whatever_they_are_of():
    """A pass costs 20 to 60 ns a block; the limit of 16 million blocks keeps them below a second together."""
    (width, height), blocks = LARGE, LARGE[0] * LARGE[1] // 64
    for mode, first in (("RGB", 3 * blocks), ("L", blocks)):
        parts = jpegs.progressive(mode=mode)
        parts = jpegs.Parts(parts.head, [parts.scans[0]])
        refined = jpegs.progressive(mode=mode).scans[-1]
        fit = (16_000_000 - first) // blocks
        assert jpeg.parse(jpegs.of_size(parts.whole(*[refined] * fit), width, height), LIMIT)
        with pytest.raises(BrokenImageError, match="too many scans for its size"):
            jpeg.parse(jpegs.of_size(parts.whole(*[refined] * (fit + 1)), width, height), LIMIT)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC9, 0xCA, 0xCF])
def test_arithmetic_lossless_and_nested_pictures_are_unsupported(marker: int):
    data = encoded(noise(), "JPEG").replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
    with pytest.raises(UnsupportedImageError, match="arithmetic"):
        codecs.decode(data, LIMIT)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ([segment(0xE5, b"")] * 5001, "more than 5000 segments"),
        ([segment(0xC0, bytes([8, 0, 8, 0, 8, 1, 1, 0x11, 0]))], "two frames"),
        ([segment(0xC0, bytes([8, 0, 8, 0, 8, 3, 1, 0x11, 0]))], "header"),
        ([segment(0xC0, bytes([8, 0, 8, 0, 8, 1, 1, 0x01, 0]))], "header"),
        ([segment(0xDA, bytes([1, 1, 0, 0, 63, 0]))], "header"),
        ([b"\xff\xd8"], "corrupt"),
        ([b"\xff\xe0\0\1"], "corrupt"),
    ],
)
def test_a_structure_that_cannot_be_is_broken(more: list[bytes], rule: str):
    with pytest.raises(BrokenImageError, match=rule):
        codecs.decode(with_segments(encoded(noise(), "JPEG"), *more), LIMIT)


@pytest.mark.usefixtures("undecoded")
def test_a_size_that_is_too_large_is_told_before_anything_else():
    data = jpegs.of_size(jpegs.progressive().whole(), 60_000, 60_000)
    with pytest.raises(ImageTooLargeError, match="60000 x 60000"):
        codecs.decode(data, LIMIT)


# ---- what stands around the picture


@pytest.mark.parametrize(
    "video",
    [
        random.Random(0).randbytes(9_000_000),
        b"\0\0\0\x18ftypmp42" + b"\xff\xda" * 50_000,
        b"MotionPhoto_Data" + bytes(99) + b"SEFHk\0\0\0SEFT",
        b"\xff\xd8\xff" + b"\xff\xda\0\2" * 500,
        encoded(noise(), "JPEG"),
    ],
    ids=["noise", "Google", "Samsung", "scans", "JPEG"],
)
def test_what_stands_behind_the_picture_is_not_looked_at(video: bytes):
    still = encoded(noise(), "JPEG")
    assert np.array_equal(codecs.decode(still + video, LIMIT), codecs.decode(still, LIMIT))


def test_of_several_pictures_the_first_is_taken():
    first, second = noise(), Image.new("RGB", (128, 160))
    data = encoded(first, "MPO", save_all=True, append_images=[second])
    assert np.array_equal(codecs.decode(data, LIMIT), codecs.decode(encoded(first, "JPEG"), LIMIT))


@pytest.mark.parametrize("junk", [b"\xff" * 100, b"\xff\x01\xff\xd0", b"\0\0\0"])
def test_what_libjpeg_skips_between_segments_is_skipped(junk: bytes):
    still = encoded(noise(), "JPEG")
    place = still.index(b"\xff\xdb")
    assert np.array_equal(codecs.decode(still[:place] + junk + still[place:], LIMIT), codecs.decode(still, LIMIT))


@pytest.mark.parametrize("sized", [100, 5_000_000])
def test_application_data_reach_no_parser(sized: int):
    """Comments, Photoshop's resources, FlashPix, other vendors' data; a profile larger than any press has."""
    share = bytes(min(60_000, sized))
    useless = [segment(marker, share) for marker in (0xFE, 0xED, 0xE3, 0xEB)]
    count = max(1, sized // len(share))
    profile = [segment(0xE2, b"ICC_PROFILE\0" + bytes([1 + n, count]) + share) for n in range(count)]
    found = jpeg.prepared(with_segments(encoded(noise(), "JPEG"), *useless, *profile), LIMIT)
    markers = {data_segment.marker for data_segment in jpeg.parse(found.data, LIMIT).segments}
    assert not markers & {0xFE, 0xED, 0xE3, 0xEB}
    assert (0xE2 in markers) == (sized < 4_000_000)


# ---- the end


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("end", [0, 1])
def test_a_picture_without_its_end_marker_is_whole(mode: str, options: dict, end: int):
    still = encoded(noise(mode=mode), "JPEG", **options)
    assert still.endswith(END)
    assert np.array_equal(codecs.decode(still[: end - 2], LIMIT), codecs.decode(still, LIMIT))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("longest", [10**6, 40])
def test_without_its_end_marker_a_picture_as_grey_as_what_is_missing_is_whole_too(mode: str, longest: int):
    still = encoded(Image.new(mode, (100, 90), (128,) * len(mode) if len(mode) > 1 else 128), "JPEG")
    found, _ = codecs.decode_preview(still[:-2], LIMIT, longest)
    assert np.array_equal(found, codecs.decode_preview(still, LIMIT, longest)[0])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_of_a_picture_that_is_cut_in_its_last_rows_the_rest_is_shown_and_they_are_grey(mode: str, subsampling: int):
    options = {"subsampling": subsampling} if mode == "RGB" else {}
    still = encoded(noise(400, 800, mode), "JPEG", **options)
    found = np.asarray(codecs.decode(still[: int(0.96 * len(still))], LIMIT)).astype(int)
    whole = np.asarray(codecs.decode(still, LIMIT)).astype(int)
    assert np.array_equal(found[:736], whole[:736])
    grey = 128 if mode != "CMYK" else 63  # half of each ink
    assert abs(found[-8:, -100:] - grey).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("longest", [10**6, 100])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_picture_that_lacks_more_is_broken(mode: str, longest: int, kept: float):
    still = encoded(noise(400, 800, mode), "JPEG")
    with pytest.raises(BrokenImageError, match="truncated"):
        codecs.decode_preview(still[: int(kept * len(still))], LIMIT, longest)


def test_a_progressive_picture_that_lacks_its_last_scans_is_less_sharp():
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 256).astype(np.uint8), (256, 1))).convert("RGB")
    still = encoded(ramp, "JPEG", progressive=True)
    found = np.asarray(codecs.decode(still[: int(0.8 * len(still))], LIMIT)).astype(int)
    assert 0 < abs(found - np.asarray(codecs.decode(still, LIMIT))).max() < 40


def test_of_a_picture_that_ends_in_its_header_nothing_can_be_shown():
    still = encoded(noise(), "JPEG")
    with pytest.raises(BrokenImageError, match="header"):
        codecs.decode(still[: still.index(b"\xff\xda")], LIMIT)
