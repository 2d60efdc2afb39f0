"""Pictures in and out: the only place that decodes, frames or encodes pixels, for serving and training alike.

Errors, all subclasses of ImageError, carry the HTTP status that the service answers with:

    ImageError
    +-- BrokenImageError       400  empty, truncated or corrupt
    +-- ImageTooLargeError     413  more pixels than allowed
    +-- UnsupportedImageError  415  not a picture, or of a kind that is not accepted
    +-- FramingError           422  a sound picture that cannot be used as a framed face
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from service import png, xmp

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8")

# `decode` compares the header's size with the caller's limit before any pixel is decoded. Pillow's own guard, which
# warns above this and refuses above twice this, stays as the second line: some formats allocate while their header is
# read.
Image.MAX_IMAGE_PIXELS = 2**26
# A progressive JPEG has some ten scans; each further one costs another pass over the whole picture.
_MAX_JPEG_SCANS = 100
_JPEG_SCAN = re.compile(b"\xff\xda")  # takes a third of the time of bytes.count

_GREYSCALE = ("1", "L", "LA", "La")
_GREY_ROWS = 16  # rows that are looked at before all are

OutputFormat = Literal["png", "jpeg", "webp"]
Box = tuple[float, float, float, float]


class ImageError(ValueError):
    """A picture that cannot be used; the message says why."""

    status = 400


class BrokenImageError(ImageError):
    """Empty, truncated or corrupt."""


class ImageTooLargeError(ImageError):
    """More pixels than allowed."""

    status = 413


class UnsupportedImageError(ImageError):
    """Not a picture, or of a kind that is not accepted."""

    status = 415


class FramingError(ImageError):
    """A sound picture that cannot be used as a framed face."""

    status = 422


class Frame(Protocol):
    """How a face sits in the picture that the model sees; `service.bundle.FaceFrame` is one."""

    image_size: int
    aligned_size: tuple[int, int]
    crop_box: Box


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode an encoded picture as a viewer would show it: upright, 8-bit RGB, transparency over white.

    Of an animation the first frame is taken. Memory stays within a small multiple of `max_pixels`: the size is read
    from the header and refused before decoding. Raises the ImageErrors above.
    """
    image, _ = _opened(data, max_pixels)
    return _as_rgb(image)


def decode_marked(data: bytes, max_pixels: int) -> tuple[Image.Image, xmp.Mark | None]:
    """Decode as `decode` does; also what the picture's XMP says about its origin."""
    image, _ = _opened(data, max_pixels)
    return _as_rgb(image), xmp.read(image, data)


def size_of(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Width and height of an encoded picture as its header tells them, before it is turned upright.

    Raises ImageErrors.
    """
    return _header(data, max_pixels).size


def decode_preview(data: bytes, max_pixels: int, longest: int) -> tuple[Image.Image, tuple[int, int]]:
    """Decode as `decode` does, but a JPEG much longer than `longest` at a fraction of its size, which is much faster.

    Returns the picture, no side of which is shorter than asked for, and the size that `decode` would give.
    """
    image, size = _opened(data, max_pixels, longest)
    return _as_rgb(image), size


@dataclass(frozen=True)
class Photo:
    """A decoded picture with what has to be kept beside its colours.

    `image` is RGB and upright; `alpha` its transparency (L) if it has any; `profile` is the ICC profile of the colours.
    `greyscale` says that the file had no colours to begin with, and will have none when it is encoded again.
    """

    image: Image.Image
    alpha: Image.Image | None
    profile: bytes | None
    greyscale: bool = False

    @property
    def is_grey(self) -> bool:
        """Whether all three channels are equal, now."""
        return self.greyscale or _is_grey(self.image)

    def opaque(self) -> Image.Image:
        """The picture, RGB, as `decode` gives it: transparency over white."""
        return self.image if self.alpha is None else _as_rgb(self.with_alpha())

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


def decode_photo(data: bytes, max_pixels: int) -> Photo:
    """Decode as `decode` does, but keep transparency and colour profile.

    Other metadata are left out: they tell places and people.
    """
    image, _ = _opened(data, max_pixels)
    greyscale = image.mode in _GREYSCALE or image.mode.startswith("I")
    # A profile of inks says nothing about the RGB they are converted to.
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "P", "L", "LA") else None
    if image.has_transparency_data:
        whole = image.convert("RGBA")
        return Photo(whole.convert("RGB"), whole.getchannel("A"), profile, greyscale)
    return Photo(_as_rgb(image), None, profile, greyscale)


def _is_grey(image: Image.Image) -> bool:
    """Whether all channels of an RGB picture are equal everywhere; one with colours is mostly told by a few rows."""
    step = max(1, image.height // _GREY_ROWS)
    few = (image.crop((0, row, image.width, row + 1)) for row in range(0, image.height, step))
    strips = (image.crop((0, top, image.width, min(top + 64, image.height))) for top in range(0, image.height, 64))
    for part in itertools.chain(few, strips):
        pixels = np.asarray(part)
        if not ((pixels[:, :, 0] == pixels[:, :, 1]) & (pixels[:, :, 1] == pixels[:, :, 2])).all():
            return False
    return True


def format_of(data: bytes) -> OutputFormat:
    """The format for an answer to this picture: its own, or PNG where that cannot be written."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    return "webp" if data.startswith(b"RIFF") else "png"


def _opened(data: bytes, max_pixels: int, longest: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
    """The first frame, upright, in its own mode, and its width and height; with `longest`, a JPEG may come smaller."""
    image = _header(data, max_pixels)
    width, height = image.size
    if image.format == "JPEG" and any(islice(_JPEG_SCAN.finditer(data), _MAX_JPEG_SCANS, None)):
        raise BrokenImageError(f"the JPEG image has more than {_MAX_JPEG_SCANS} scans")
    try:
        if longest is not None and max(width, height) > longest:
            image.draft(None, (width * longest // max(width, height), height * longest // max(width, height)))
        image.load()
    except MemoryError:
        raise  # the machine's fault, not the picture's
    except Exception as exc:  # OSError, SyntaxError, struct.error, ... depending on the format and the damage
        raise BrokenImageError(f"the {image.format} image is truncated or corrupt") from exc
    if image.mode == "P" and image.palette is None:
        raise BrokenImageError(f"the {image.format} image has no palette for its colours")
    lying = image.size
    upright = _upright(image)
    return upright, (width, height) if upright.size == lying else (height, width)


def _header(data: bytes, max_pixels: int) -> Image.Image:
    """The picture, not yet decoded, of at most so many pixels."""
    if not data:
        raise BrokenImageError("the image is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=ACCEPTED_FORMATS)
    except UnidentifiedImageError as exc:
        if data.startswith(_SIGNATURES):
            raise BrokenImageError("the image's header is truncated or corrupt") from exc
        accepted = ", ".join(ACCEPTED_FORMATS)
        raise UnsupportedImageError(f"the data is not an image of an accepted format ({accepted})") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageTooLargeError(f"the image has too many pixels; at most {max_pixels} are accepted") from exc
    except MemoryError:
        raise
    except Exception as exc:  # a damaged header raises whatever the format's parser trips over
        raise BrokenImageError("the image's header cannot be read") from exc
    width, height = image.size
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"the image has {width} x {height} = {width * height} pixels; at most {max_pixels} are accepted"
        )
    return image


def _upright(image: Image.Image) -> Image.Image:
    with contextlib.suppress(Exception):  # a viewer ignores an unreadable EXIF block, and so do we
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16-bit greyscale; Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        background = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(background, rgba).convert("RGB")
    return image.convert("RGB")


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
        before = [max(0, int(np.ceil(inner - outer))) for inner, outer in ((north, top), (west, left))]
        beyond = [max(0, int(np.ceil(outer - inner))) for inner, outer in ((seen[3], bottom), (seen[2], right))]
        padding = (*zip(before, beyond, strict=True), (0, 0))
        image = Image.fromarray(np.pad(np.asarray(image.crop(seen)), padding, mode="edge"))
        x, y = before[1] - west, before[0] - north
        box = (left + x, top + y, right + x, bottom + y)
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


def encode_photo(photo: Photo, image_format: OutputFormat, quality: int = 90, packet: bytes = b"") -> bytes:
    """Encode as `encode` does, with transparency and profile; JPEG knows no transparency and gets the picture over
    white.
    """
    image = photo.flat() if image_format == "jpeg" else photo.with_alpha()
    # WebP has colours only, for which a profile of greys would be wrong.
    profile = None if photo.greyscale and image_format == "webp" else photo.profile
    return _encoded(image, image_format, quality, profile, packet)


def encode(pixels: np.ndarray, image_format: OutputFormat, quality: int = 90, packet: bytes = b"") -> bytes:
    """Encode uint8 [H, W, 3], or [H, W] in grey. `quality` 1..100 is for JPEG and WebP; PNG is lossless and ignores it.

    `packet` is the XMP that the file carries, none if empty.
    """
    if image_format == "png":
        return png.encode(pixels, packet)
    return _encoded(Image.fromarray(pixels), image_format, quality, None, packet)


def _encoded(
    image: Image.Image, image_format: OutputFormat, quality: int, profile: bytes | None, packet: bytes
) -> bytes:
    if image_format == "png":
        return png.encode(np.asarray(image), packet, profile)
    options: dict[str, dict[str, Any]] = {
        "jpeg": {"quality": quality},
        "webp": {"quality": quality, "method": 0},
    }
    buffer = io.BytesIO()
    image.save(buffer, image_format.upper(), icc_profile=profile, xmp=packet, **options[image_format])
    return buffer.getvalue()


def grid(pictures: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Tile uint8 [N, H, W, 3] row by row into one picture, near square unless `columns` is given; blanks are white."""
    count, height, width, _ = pictures.shape
    columns = columns or int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    sheet = np.full((rows * columns, height, width, 3), 255, dtype=np.uint8)
    sheet[:count] = pictures
    return sheet.reshape(rows, columns, height, width, 3).swapaxes(1, 2).reshape(rows * height, columns * width, 3)
