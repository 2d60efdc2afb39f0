"""Monochrome photographs, grey or toned (sepia, cyanotype): an edit of them changes brightness and adds no colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from service.imaging.edit_fields import LUMA

_SIDE, _AVERAGED = 384, 4  # of the sampled picture; the noise of JPEG is averaged over squares of so many samples
_GREY = 2  # levels by which the channels of grey differ after a lossy WebP, and an edit of it
# Levels by which samples may differ from the colour of their brightness: 99 of 100, and all. Five photographs
# kept to it as duotones, and four of them under a sepia filter, which blows highlights; in colour, none of 2,000 did.
_MOSTLY, _AT_MOST = 21.0, 52.0
_CLIPPED = 4  # levels from black and white within which a channel may be clipped
_LEAST_CONTRAST = 8.0  # standard deviation in levels, below which a picture is too flat to tell
_SLOPES = (0.5, 4.0)  # of the channels, relative to the darkest


@dataclass(frozen=True)
class Tone:
    """The colours of a monochrome photograph by their luma, int16 [256, 3]; None where channels are equal."""

    colours: np.ndarray | None = None

    def kept(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The pixels uint8 [..., 3] `after` an edit of the luma, in the colours that the photograph has at that luma.

        Where the luma does not change, they are those of `before`.
        """
        if self.colours is None:
            return after
        old, new = (self.colours[np.rint(pixels @ LUMA).astype(np.uint8)] for pixels in (before, after))
        return (before + (new - old)).clip(0, 255).astype(np.uint8)


GREY = Tone()


def tone_of(image: Image.Image) -> Tone | None:
    """The tone of an RGB picture, None if it has colours."""
    shrink = min(1.0, _SIDE / max(image.size))
    size = (max(1, round(image.width * shrink)), max(1, round(image.height * shrink)))
    sampled = image.resize(size, Image.Resampling.NEAREST).reduce(_AVERAGED)
    return _fitted(np.asarray(sampled, dtype=np.float32).reshape(-1, 3))


def _fitted(samples: np.ndarray) -> Tone | None:
    """Each channel as a linear function of the darkest one, which clips least; of f32 [N, 3]."""
    if np.ptp(samples, axis=1).max() <= _GREY:
        return GREY
    darkest = int(samples.mean(0).argmin())
    unclipped = samples[((samples >= _CLIPPED) & (samples <= 255 - _CLIPPED)).all(axis=1)]
    if not len(unclipped) or unclipped[:, darkest].std() < _LEAST_CONTRAST:
        return None
    mean = unclipped.mean(0)
    levels = unclipped[:, darkest] - mean[darkest]
    slopes = levels @ (unclipped - mean) / (levels @ levels)
    if slopes.min() < _SLOPES[0] or slopes.max() > _SLOPES[1]:
        return None

    def colours(levels: np.ndarray) -> np.ndarray:
        return (mean + (levels[:, None] - mean[darkest]) * slopes).clip(0, 255)

    differences = np.abs(samples - colours(samples[:, darkest])).max(axis=1)
    if np.quantile(differences, 0.99) > _MOSTLY or differences.max() > _AT_MOST:
        return None
    # No darker than the darkest of the photograph, and no brighter than its paper: beyond them the tint would change.
    table = colours(np.linspace(samples[:, darkest].min(), samples[:, darkest].max(), 256))
    by_luma = np.stack([np.interp(np.arange(256), table @ LUMA, channel) for channel in table.T], axis=1)
    return Tone(np.rint(by_luma).astype(np.int16))
