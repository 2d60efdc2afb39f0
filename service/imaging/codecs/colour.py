"""The colours of decoded pictures as 8-bit RGB."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageCms

_GREYSCALE = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")
# Bytes of a colour profile. Those of presses have some hundred kilobytes to two megabytes.
LARGEST_PROFILE = 4_000_000
_STRIP = 1 << 20  # pixels that are converted at a time


def separated(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """A picture of any mode as RGB, and its transparency (L) if it has any.

    Sixteen bits become the upper eight. Inks are converted by their profile to sRGB, or plainly where there is none
    that can be used.
    """
    if image.mode.startswith("I"):  # Pillow's own conversion would clip at 255
        image = in_strips(image, lambda levels: (levels.clip(0, 65535) >> 8).astype(np.uint8))
    if image.mode == "CMYK":
        return _of_inks(image), None
    if image.mode in ("La", "RGBa"):  # multiplied by their transparency
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        whole = image if image.mode == "RGBA" else image.convert("RGBA")
        return whole.convert("RGB"), whole.getchannel("A")
    return image.convert("RGB") if image.mode != "RGB" else image, None


def over_white(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    """An RGB picture, seen through its transparency."""
    if alpha is None:
        return image
    seen = image.copy()
    seen.paste("white", mask=ImageChops.invert(alpha))
    return seen


def in_strips(image: Image.Image, convert: Callable[[np.ndarray], np.ndarray]) -> Image.Image:
    """A picture converted a few rows at a time; `convert` makes uint8 [H, W] or [H, W, C] of them."""
    step = max(1, _STRIP // image.width)
    result = None
    for top in range(0, image.height, step):
        part = np.asarray(image.crop((0, top, image.width, min(top + step, image.height))))
        strip = Image.fromarray(convert(part))
        result = result or Image.new(strip.mode, image.size)
        result.paste(strip, (0, top))
    result.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return result


def has_no_colours(image: Image.Image) -> bool:
    """Whether a file had none to begin with."""
    return image.info.get("greyscale", image.mode in _GREYSCALE)


def profile_of(image: Image.Image) -> bytes | None:
    """The profile of a decoded picture's colours as they are once it is RGB; None where that has no meaning."""
    space = b"GRAY" if has_no_colours(image) else b"RGB "
    profile = image.info.get("icc_profile")
    return profile if image.mode != "CMYK" and _describes(profile, space) else None


def _describes(profile: bytes | None, space: bytes) -> bool:
    """Whether a profile is one of that colour space, as its header tells it (ICC.1:2022, 7.2)."""
    return (
        isinstance(profile, bytes)
        and len(profile) <= LARGEST_PROFILE
        and profile[36:40] == b"acsp"
        and profile[16:20] == space
        and int.from_bytes(profile[:4], "big") <= len(profile)
    )


def takes_profile(image: Image.Image) -> bool:
    """Whether the colours of a picture are converted by a profile, which takes four times as long as decoding them."""
    return image.mode == "LAB" or (image.mode == "CMYK" and _press_profile(image) is not None)


def _press_profile(image: Image.Image) -> bytes | None:
    profile = image.info.get("icc_profile")
    return profile if _describes(profile, b"CMYK") and not _has_elements(profile) else None


def _of_inks(image: Image.Image) -> Image.Image:
    profile = _press_profile(image)
    if profile is None:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):  # a profile that is broken where its header is not
        return image.convert("RGB")


def _has_elements(profile: bytes) -> bool:
    """Whether it has tables of processing elements (DToB), of which a small profile can hold any number."""
    count = int.from_bytes(profile[128:132], "big")
    return any(profile[place : place + 3] == b"D2B" for place in range(132, min(132 + 12 * count, len(profile)), 12))
