"""EXIF data and resolutions, as far as files keep them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

from PIL import Image

PREFIX = b"Exif\0\0"  # of a block in a JPEG, and of those that Pillow makes
_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
_ESSENTIAL = (_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT)
_INCHES = 2
_FINEST = 65_535  # dots per inch that JFIF can express


def exif_of(image: Image.Image) -> bytes:
    """The EXIF data of a decoded picture, which is upright: without its orientation and its thumbnail.

    Empty where there are none that can be read; a block begins with the header of a TIFF file.
    """
    with contextlib.suppress(Exception):  # an unreadable block is ignored, as viewers do
        if image.info.get("exif"):
            return _block(image.getexif(), lambda tag: tag != _ORIENTATION)
    return b""


def essential(exif: bytes) -> bytes:
    """What viewers need of a block of EXIF data to show a picture as it was: its orientation and resolution."""
    with contextlib.suppress(Exception):
        found = Image.Exif()
        found.load(exif)
        upright = found.get(_ORIENTATION) == 1
        return _block(found, lambda tag: tag in _ESSENTIAL and not (upright and tag == _ORIENTATION))
    return b""


def of_resolution(dpi: tuple[float, float]) -> bytes:
    """A block of EXIF data with nothing but a resolution."""
    exif = Image.Exif()
    exif[_X_RESOLUTION], exif[_Y_RESOLUTION], exif[_UNIT] = (*dpi, _INCHES)
    return exif.tobytes().removeprefix(PREFIX)


def resolution_of(image: Image.Image) -> tuple[float, float] | None:
    """Dots per inch across and down, if a decoded picture has a resolution that can be."""
    with contextlib.suppress(TypeError, ValueError, ZeroDivisionError, OverflowError):
        across, down = map(float, image.info.get("dpi") or _exif_resolution(image))
        if all(math.isfinite(value) and 1 < value <= _FINEST for value in (across, down)):
            return across, down
    return None


def _exif_resolution(image: Image.Image) -> tuple[float, float] | tuple[()]:
    """WebP has no resolution but in its EXIF data."""
    with contextlib.suppress(Exception):
        exif = image.getexif()
        if exif.get(_UNIT, _INCHES) == _INCHES and image.info.get("exif"):
            return float(exif[_X_RESOLUTION]), float(exif[_Y_RESOLUTION])
    return ()


def _block(exif: Image.Exif, kept: Callable[[int], bool]) -> bytes:
    for tag in [tag for tag in exif if not kept(tag)]:
        del exif[tag]
    return exif.tobytes().removeprefix(PREFIX) if len(exif) else b""
