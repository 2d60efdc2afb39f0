"""A decoded picture with what has to be kept beside its colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.imaging.codecs import colour


@dataclass(frozen=True)
class Coding:
    """How a file was encoded, so that another can be encoded alike.

    Of a JPEG the quantisation `tables` of luminance and chroma, and whether it stores `rgb`; of a JPEG, an AVIF or a
    HEIC its chroma `subsampling` (0: none, 1: across, 2: across and down); of a WebP whether it is `lossless`.
    """

    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: int | None = None
    rgb: bool = False
    lossless: bool = False


@dataclass(frozen=True)
class Photo:
    """A decoded picture with what has to be kept beside its colours.

    `image` is RGB and upright; `alpha` its transparency (L) if it has any; `profile` is the ICC profile of the colours.
    `greyscale` says that the file had no colours to begin with, and will have none when it is encoded again. `dpi` is
    its resolution across and down; `exif` are its EXIF data without orientation and thumbnail.
    """

    image: Image.Image
    alpha: Image.Image | None
    profile: bytes | None
    greyscale: bool = False
    dpi: tuple[float, float] | None = None
    exif: bytes = b""
    coding: Coding = Coding()

    def opaque(self) -> Image.Image:
        """The picture, RGB, as `decode` gives it: transparency over white."""
        return colour.over_white(self.image, self.alpha)

    def flat(self) -> Image.Image:
        """The same, in grey if it is greyscale."""
        return self.opaque().getchannel(0) if self.greyscale else self.opaque()

    def with_alpha(self) -> Image.Image:
        """The picture, with its transparency if it has any."""
        whole = self.image.getchannel(0) if self.greyscale else self.image
        if self.alpha is None:
            return whole
        whole = whole if self.greyscale else whole.copy()
        whole.putalpha(self.alpha)
        return whole

    @property
    def channels(self) -> int:
        """Those that a file needs: 1 for grey, 3 for colours, and one for transparency."""
        return (1 if self.greyscale else 3) + (self.alpha is not None)

    def rows(self, top: int, bottom: int) -> np.ndarray:
        """Some rows with these channels, uint8 [bottom - top, W, C]."""
        box = (0, top, self.image.width, bottom)
        pixels = np.asarray(self.image.crop(box))
        pixels = pixels[:, :, :1] if self.greyscale else pixels
        return pixels if self.alpha is None else np.dstack([pixels, np.asarray(self.alpha.crop(box))])
