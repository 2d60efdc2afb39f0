"""What an edit changes where it should change nothing: away from the face, and in the texture of what stays.

Pictures are aligned ones as CelebA has them, uint8 [N, 218, 178, 3].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import laplace

_LUMA = np.array([0.299, 0.587, 0.114])
UNCHANGED = 1  # levels of 255; what differs by no more was not edited


@dataclass(frozen=True)
class Ellipse:
    """Around a face and its hair, in pixels of the aligned picture: `centre` x, y and half of the width and height."""

    centre: tuple[float, float] = (88.5, 121.0)
    semi_axes: tuple[float, float] = (80.0, 100.0)

    def outside(self, height: int, width: int) -> np.ndarray:
        """bool [H, W]: the pixels whose centres lie outside."""
        y, x = np.ogrid[:height, :width]
        across, down = ((at + 0.5 - c) / a for at, c, a in zip((x, y), self.centre, self.semi_axes, strict=True))
        return across**2 + down**2 > 1


def change_outside(before: np.ndarray, after: np.ndarray, ellipse: Ellipse) -> np.ndarray:
    """Mean absolute change in levels, over colours and all pixels outside; f64 [N] of uint8 [N, H, W, 3]."""
    outside = ellipse.outside(*before.shape[1:3])
    return np.abs(after.astype(np.int16) - before.astype(np.int16))[:, outside].mean((1, 2))


def detail_kept(before: np.ndarray, after: np.ndarray, unmasked: np.ndarray | None = None) -> np.ndarray:
    """Variance of the luma's Laplacian after / before, over the pixels that should be as they were; f64 [N].

    `unmasked` bool [N, H, W] are those where an editor's mask is next to nothing; without it, those that changed by at
    most UNCHANGED levels. NaN for a picture without any, or without texture there.
    """
    if unmasked is None:
        unmasked = np.abs(after.astype(np.int16) - before.astype(np.int16)).max(3) <= UNCHANGED
    kept = np.full(len(before), np.nan)
    for row, where in enumerate(unmasked):
        was, now = (laplace(picture[row].astype(np.float64) @ _LUMA)[where] for picture in (before, after))
        if where.any() and was.var() > 0:
            kept[row] = now.var() / was.var()
    return kept
