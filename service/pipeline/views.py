"""A part of a photograph, as large as somebody looks at it: edits of it cost what is seen, not what was taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from service.imaging.codecs import Photo
from service.imaging.paste import PhotoEdit
from service.imaging.tone import Tone

WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class View:
    """The part of a photograph from `origin` f64 [2] on, scaled by `factors` f64 [2, 1]."""

    photo: Photo
    origin: np.ndarray
    factors: np.ndarray

    @staticmethod
    def of(photo: Photo, region: Sequence[float] | None, size: int | None) -> View:
        """`region` is left, top, right and bottom in shares of width and height; the whole if None.

        The longest side is at most `size` pixels; nothing is enlarged.
        """
        width, height = photo.image.size
        left, top, right, bottom = region or WHOLE
        x0, y0 = min(int(left * width), width - 1), min(int(top * height), height - 1)
        x1, y1 = (max(low + 1, round(share * side)) for low, share, side in ((x0, right, width), (y0, bottom, height)))
        box = (x0, y0, min(x1, width), min(y1, height))
        wide, high = box[2] - x0, box[3] - y0
        factor = min(1.0, (size or max(wide, high)) / max(wide, high))
        target = (max(1, round(wide * factor)), max(1, round(high * factor)))

        def cut(image: Image.Image) -> Image.Image:
            if target == (wide, high):
                return image.crop(box)
            return image.resize(target, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0)

        alpha = None if photo.alpha is None else cut(photo.alpha)
        factors = np.array([[target[0] / wide], [target[1] / high]])
        seen = replace(photo, image=cut(photo.image), alpha=alpha)
        return View(seen, np.array([x0, y0], dtype=np.float64), factors)

    def edited(self, edits: Sequence[PhotoEdit | None], tone: Tone | None) -> Photo:
        """A copy with all of these edits of the whole photograph; None changes nothing."""
        image = self.photo.image.copy()
        for edit in edits:
            if edit is not None:
                edit.resized(self.factors, self.origin).onto(image, tone)
        return replace(self.photo, image=image)

    def variants(self, edits: Sequence[PhotoEdit | None], tone: Tone | None) -> np.ndarray:
        """One picture for each of the edits, uint8 [T, H, W, 3]."""
        return np.stack([np.asarray(self.edited([edit], tone).image) for edit in edits])
