"""Inks and other colours become the RGB that a viewer shows."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from service.errors import ImageTooLargeError
from service.imaging import codecs
from tests.service.fakes import encoded
from tests.service.imaging import jpegs, profiles
from tests.service.imaging.jpegs import segment, with_segments
from tests.service.imaging.samples import translucent

LIMIT = 2_000_000
INKS = {
    "paper": (0, 0, 0, 0),
    "cyan": (255, 0, 0, 0),
    "magenta": (0, 255, 0, 0),
    "yellow": (0, 0, 255, 0),
    "black": (0, 0, 0, 255),
    "brown": (60, 140, 200, 60),
}


def printed(inks: tuple[int, ...]) -> list[int]:
    """What the press's profile says of inks, in sRGB, by the arithmetic of CIE Lab and sRGB alone."""
    light, a, b = profiles.ink(*(share / 255 for share in inks))
    y = (light + 16) / 116
    d50 = np.array([0.9642, 1.0, 0.8249]) * [
        t**3 if t > 6 / 29 else 3 * (6 / 29) ** 2 * (t - 4 / 29) for t in (y + a / 500, y, y - b / 200)
    ]
    to_linear = [[3.1339, -1.6169, -0.4906], [-0.9788, 1.9161, 0.0335], [0.0719, -0.2290, 1.4052]]
    linear = (np.array(to_linear) @ d50).clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055).clip(0, 1) * 255


def flat(inks: tuple[int, ...], kind: str = "JPEG", **options) -> bytes:
    options = {"quality": 100} | options if kind == "JPEG" else options
    return encoded(Image.new("CMYK", (32, 32), inks), kind, **options)


def middle(data: bytes) -> np.ndarray:
    return np.asarray(codecs.decode(data, LIMIT))[16, 16].astype(int)


@pytest.mark.parametrize("inks", INKS.values(), ids=INKS.keys())
@pytest.mark.parametrize("nodes", [2, 9])
def test_inks_are_converted_by_their_profile(inks: tuple[int, ...], nodes: int):
    found = middle(flat(inks, icc_profile=profiles.press(nodes=nodes)))
    # A table of few nodes is straight between them; near black, one step of ink is several levels.
    assert abs(found - printed(inks)).max() < (40 if nodes == 2 and inks == INKS["brown"] else 10)


def test_the_profiles_cyan_is_not_the_plain_one():
    assert middle(flat(INKS["cyan"])).tolist() == pytest.approx([0, 255, 255], abs=3)
    assert middle(flat(INKS["cyan"], icc_profile=profiles.press())).tolist() == pytest.approx([0, 164, 232], abs=4)


def test_a_converted_picture_carries_no_profile_of_inks():
    assert codecs.decode_photo(flat(INKS["cyan"], icc_profile=profiles.press()), LIMIT).profile is None


BROKEN = {
    "empty": b"",
    "noise": bytes(range(256)) * 9,
    "of RGB": profiles.srgb(),
    "of an unknown space": profiles.press(space=b"6CLR"),
    "cut": profiles.press()[:-2000],
    "without a table": profiles.press().replace(b"A2B0", b"A2X0"),
    "whose table is none": profiles.press().replace(b"mft1", b"text"),
    "of elements": profiles.press(more=(b"D2B0",)),
    "too large": struct.pack(">I", 5_000_000) + profiles.press()[4:].ljust(4_999_996, b"\0"),
}


@pytest.mark.parametrize("profile", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("inks", [INKS["cyan"], INKS["brown"]])
def test_a_profile_that_cannot_be_used_is_as_none(profile: bytes, inks: tuple[int, ...]):
    assert np.array_equal(middle(flat(inks, icc_profile=profile)), middle(flat(inks)))


def test_a_profile_that_passes_for_sound_and_is_not_is_as_none(monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object, **__: object) -> None:
        raise ImageCms.PyCMSError("cannot build transform")

    monkeypatch.setattr(ImageCms, "profileToProfile", fails)
    assert middle(flat(INKS["cyan"], icc_profile=profiles.press())).tolist() == pytest.approx([0, 255, 255], abs=3)


# ---- how JPEG stores inks


def ycck(inks: tuple[int, ...]) -> bytes:
    """As Photoshop writes it: the complement of each ink; of the first three luminance and chroma."""
    (light, *chroma) = Image.new("RGB", (1, 1), inks[:3]).convert("YCbCr").getpixel((0, 0))
    # Pillow stores the complement of what it is given.
    stored = Image.new("CMYK", (32, 32), (255 - light, *(255 - value for value in chroma), inks[3]))
    data = encoded(stored, "JPEG", quality=100)
    place = data.index(b"Adobe")
    assert data[place + 11] == 0
    return data[: place + 11] + b"\2" + data[place + 12 :]


@pytest.mark.parametrize("profile", [None, profiles.press()], ids=["plain", "profile"])
@pytest.mark.parametrize("inks", INKS.values(), ids=INKS.keys())
def test_inks_are_the_same_however_they_are_stored(inks: tuple[int, ...], profile: bytes | None):
    """With Adobe's marker, with luminance and chroma, and without a marker, which browsers take as with it."""
    chunks = [segment(0xE2, b"ICC_PROFILE\0\1\1" + profile)] if profile else []
    expected = printed(inks) if profile else Image.new("CMYK", (1, 1), inks).convert("RGB").getpixel((0, 0))
    for data in (flat(inks), ycck(inks), jpegs.without(flat(inks), 0xEE)):
        assert abs(middle(with_segments(data, *chunks)) - expected).max() < 9


def test_a_preview_of_inks_has_their_colours():
    data = encoded(Image.new("CMYK", (800, 800), INKS["brown"]), "JPEG", icc_profile=profiles.press(nodes=9))
    preview, _ = codecs.decode_preview(data, LIMIT, 100)
    assert preview.size == (100, 100)
    assert abs(np.asarray(preview)[50, 50] - printed(INKS["brown"])).max() < 8


# ---- profiles that go through


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    ("profile", "kept"),
    [(profiles.srgb(), True), (profiles.press(), False), (profiles.srgb()[:300], False), (b"broken" * 99, False)],
    ids=["sRGB", "inks", "cut", "noise"],
)
def test_a_profile_of_its_colours_is_kept_and_others_are_not(kind: str, profile: bytes, kept: bool):
    photo = codecs.decode_photo(encoded(Image.new("RGB", (9, 9)), kind, icc_profile=profile), LIMIT)
    assert photo.profile == (profile if kept else None)
    image = Image.open(io.BytesIO(codecs.encode_photo(photo, "png")))
    assert image.info.get("icc_profile") == photo.profile


def test_a_profile_of_colours_is_none_of_greys():
    assert (
        codecs.decode_photo(encoded(Image.new("L", (9, 9)), "JPEG", icc_profile=profiles.srgb()), LIMIT).profile is None
    )


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_colours_that_a_profile_converts_may_have_half_as_many_pixels(kind: str):
    """LittleCMS takes 30 ns a pixel, several times as long as a decoder."""
    with_profile = encoded(Image.new("CMYK", (60, 50)), kind, icc_profile=profiles.press())
    plain = encoded(Image.new("CMYK", (60, 50)), kind)
    for data, most in ((with_profile, 6000), (plain, 3000)):
        assert codecs.decode(data, most).size == (60, 50)
    with pytest.raises(ImageTooLargeError, match=r"at most 2999 are accepted of colours that a profile converts"):
        codecs.size_of(with_profile, 5999)


def test_lab_may_have_half_as_many_pixels():
    lab = encoded(Image.new("LAB", (60, 50)), "TIFF")
    assert codecs.size_of(lab, 6000) == (60, 50)
    with pytest.raises(ImageTooLargeError, match="Lab"):
        codecs.size_of(lab, 5999)


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGBA", "WEBP", {"lossless": True}), ("RGBA", "WEBP", {}), ("RGBA", "TIFF", {}), ("LA", "TIFF", {}),
        ("RGBA", "AVIF", {}), ("P", "GIF", {"transparency": 0}), ("P", "PNG", {"transparency": 0}),
        ("RGB", "PNG", {"transparency": (1, 2, 3)}),
    ],
)  # fmt: skip
def test_pictures_with_transparency_may_have_half_as_many_pixels(mode: str, kind: str, options: dict):
    """Separating it and laying it over white takes as long as decoding."""
    see_through = encoded(translucent(Image.new("RGB", (60, 50))).convert(mode), kind, **options)
    assert codecs.size_of(see_through, 6000) == (60, 50)
    with pytest.raises(ImageTooLargeError, match=r"at most 2999 are accepted of an image with transparency"):
        codecs.size_of(see_through, 5999)
