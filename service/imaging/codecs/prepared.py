"""What of a file its decoder is given.

A file holds much that its pixels do not need, and parsers of texts, profiles and further pictures are where hostile
files do their harm. So each format's module leaves out what is not needed, and bounds the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from service.errors import ImageTooLargeError
from service.imaging.codecs.photo import Coding


def as_it_is(image: Image.Image) -> Image.Image:
    """The same."""
    return image


def _unknown(image: Image.Image) -> Coding:
    return Coding()


@dataclass(frozen=True)
class Prepared:
    """A file that Pillow may read; `info` takes the place of what it finds, `finish` is applied to what it decodes.

    `coding` is how the picture that Pillow opened was encoded; `buffered` says that the decoder
    goes on holding copies of the picture.
    """

    data: bytes
    info: dict[str, Any] = field(default_factory=dict)
    finish: Callable[[Image.Image], Image.Image] = as_it_is
    coding: Callable[[Image.Image], Coding] = _unknown
    buffered: bool = False


def check_size(width: int, height: int, max_pixels: int, of: str = "") -> None:
    """Raises ImageTooLargeError for a picture of more pixels; `of` names the kind that the limit is of."""
    if width * height > max_pixels:
        accepted = f"at most {max_pixels} are accepted{of and ' '}{of}"
        raise ImageTooLargeError(f"the image has {width} x {height} = {width * height} pixels; {accepted}")
