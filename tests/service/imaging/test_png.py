"""PNG files of our own making, read back by Pillow."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from service.imaging import png

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data), formats=["PNG"])
    image.load()
    return image


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 2, 3, 4]), st.integers(0, 2**32 - 1))
def test_what_is_written_is_read_back(height: int, width: int, channels: int, seed: int):
    pixels = noise(height, width, channels, seed)
    image = opened(png.encode(pixels))
    assert image.mode == ("L", "LA", "RGB", "RGBA")[channels - 1]
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_large_pictures_are_written_in_bands(channels: int, monkeypatch: pytest.MonkeyPatch):
    pixels = noise(90, 70, channels)
    whole = png.encode(pixels)
    monkeypatch.setattr(png, "_BAND", 7 * 70 * channels)  # 13 bands, the last of them short
    assert np.array_equal(np.asarray(opened(png.encode(pixels))), pixels)
    monkeypatch.setattr(png, "_BAND", 1)  # a row is the least
    assert np.array_equal(np.asarray(opened(png.encode(pixels))), np.asarray(opened(whole)))


def test_views_that_are_not_contiguous_are_written():
    pixels = noise(20, 30)[::2, ::-1]
    assert np.array_equal(np.asarray(opened(png.encode(pixels))), pixels)


def test_a_picture_without_an_axis_for_channels_is_grey():
    pixels = noise(6, 5, 1)[:, :, 0]
    assert np.array_equal(np.asarray(opened(png.encode(pixels))), pixels)


def test_packet_and_profile_are_kept():
    image = opened(png.encode(noise(5, 5), b"<x/>", PROFILE))
    assert image.info["icc_profile"] == PROFILE
    assert image.info["xmp"] == b"<x/>"


def test_every_chunk_has_its_checksum():
    data = png.encode(noise(8, 8), b"<x/>", PROFILE)
    position, kinds = 8, []
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        body = data[position + 4 : position + 8 + length]
        assert int.from_bytes(data[position + 8 + length : position + 12 + length], "big") == zlib.crc32(body)
        kinds.append(body[:4])
        position += 12 + length
    assert kinds == [b"IHDR", b"iCCP", b"iTXt", b"IDAT", b"IEND"]


def test_smooth_pictures_become_small():
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    pixels = np.broadcast_to(ramp[:, None, None], (256, 256, 3))
    assert len(png.encode(pixels)) < pixels.size / 50


@pytest.mark.parametrize("pixels", [noise(4, 4).astype(np.float32), noise(4, 4, 5)])
def test_other_pixels_are_refused(pixels: np.ndarray):
    with pytest.raises(ValueError, match="must be uint8"):
        png.encode(pixels)
