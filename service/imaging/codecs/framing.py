"""Parts of pictures at other sizes, the model's view of a framed face, and pictures side by side."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from PIL import Image

from service.errors import FramingError

Box = tuple[float, float, float, float]
_LARGE = 1_000_000  # pixels


class Frame(Protocol):
    """How a face sits in the picture that the model sees; `service.bundle.FaceFrame` is one."""

    image_size: int
    aligned_size: tuple[int, int]
    crop_box: Box


def crop_resize(image: Image.Image, box: Box, size: int) -> np.ndarray:
    """Resample `box` of an RGB picture to uint8 [size, size, 3], as `resample`."""
    return resample(image, box, (size, size))


def resample(image: Image.Image, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Resample `box` (left, top, right, bottom, may be fractional) of an RGB picture to uint8 [height, width, 3].

    `size` is width and height. Antialiased bicubic; a box of more than four times the size is averaged to twice the
    size first, which is much faster. Where the box leaves the picture, the border pixels continue.
    """
    left, top, right, bottom = box
    if left < 0 or top < 0 or right > image.width or bottom > image.height:
        # Of the picture only the part that is seen, with what the filter reads around it.
        reach = 3 * max((right - left) / size[0], (bottom - top) / size[1], 1)
        west, east = (int(np.clip(side, 0, image.width - 1)) for side in (left - reach, right + reach))
        north, south = (int(np.clip(side, 0, image.height - 1)) for side in (top - reach, bottom + reach))
        seen = (west, north, east + 1, south + 1)
        # Of a large box, of which most may be continued border, pixels are averaged first.
        lengths, across, down = (right - left, bottom - top), 1, 1
        if lengths[0] * lengths[1] > _LARGE:
            across, down = (max(1, int(length / side / 2)) for length, side in zip(lengths, size, strict=True))
        left, right = (left - west) / across, (right - west) / across
        top, bottom = (top - north) / down, (bottom - north) / down
        part = np.asarray(image.reduce((across, down), seen) if across * down > 1 else image.crop(seen))
        before = [max(0, math.ceil(-start)) for start in (top, left)]
        beyond = [max(0, math.ceil(end - length)) for end, length in ((bottom, part.shape[0]), (right, part.shape[1]))]
        image = Image.fromarray(np.pad(part, (*zip(before, beyond, strict=True), (0, 0)), mode="edge"))
        box = (left + before[1], top + before[0], right + before[1], bottom + before[0])
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=2.0))


def framed_face(image: Image.Image, frame: Frame) -> tuple[np.ndarray, Box]:
    """The model's view, uint8 [S, S, 3], of a picture that is already framed, and the box it was taken from.

    Accepted are pictures of the aligned frame's proportions at any size (within 2%), from which the frame's crop is
    taken, and square pictures, which are taken to be that crop. Raises FramingError for other proportions.
    """
    width, height = frame.aligned_size
    box: Box = (0, 0, image.width, image.height)
    if image.width == image.height:
        return crop_resize(image, box, frame.image_size), box
    if abs(image.width * height / (image.height * width) - 1) > 0.02:
        raise FramingError(
            f"the image is {image.width} x {image.height} pixels; expected an aligned face in the proportions "
            f"{width} x {height}, or a square crop of one"
        )
    x, y = image.width / width, image.height / height
    left, top, right, bottom = frame.crop_box
    box = (left * x, top * y, right * x, bottom * y)
    return crop_resize(image, box, frame.image_size), box


def grid(pictures: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Tile uint8 [N, H, W, 3] row by row into one picture, near square unless `columns` is given; blanks are white."""
    count, height, width, _ = pictures.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    sheet = np.full((rows * columns, height, width, 3), 255, dtype=np.uint8)
    sheet[:count] = pictures
    return sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
