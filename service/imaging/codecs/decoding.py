"""Files as pictures: their headers first, then their pixels."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from PIL import AvifImagePlugin, Image, ImageOps, UnidentifiedImageError

from service.errors import BrokenImageError, ImageError, ImageTooLargeError, UnsupportedImageError
from service.imaging import xmp
from service.imaging.codecs import av1, bmp, colour, gif, hevc, isobmff, jpeg, metadata, png_chunks, tiff, webp
from service.imaging.codecs.photo import Photo
from service.imaging.codecs.prepared import Prepared, check_size

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")

# `decode` compares the header's size with the caller's limit before any pixel is decoded. Pillow's own guard, which
# warns above this and refuses above twice this, stays as the second line: some formats allocate while their header is
# read.
Image.MAX_IMAGE_PIXELS = 2**26

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # who decodes at once is the caller's business

_PREPARE: dict[str, Callable[[bytes, int], Prepared]] = {
    "JPEG": jpeg.prepared,
    "PNG": png_chunks.prepared,
    "WEBP": webp.prepared,
    "GIF": gif.prepared,
    "TIFF": tiff.prepared,
    "BMP": bmp.prepared,
    "AVIF": isobmff.prepared(av1.decoded_pixels, b"av01", most_bytes=20_000_000),
    "HEIF": isobmff.prepared(hevc.check, b"hvc1", most_bytes=12_000_000),
}
_SIGNATURES: dict[str, tuple[bytes, ...]] = {
    "JPEG": (jpeg.SIGNATURE,),
    "PNG": (png_chunks.SIGNATURE,),
    "GIF": (gif.SIGNATURE,),
    "TIFF": tiff.SIGNATURES,
}
_NO_HEIC = "HEIC images are accepted where the extra `heic` is installed (pip install 'facet[heic]'); here it is not"


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """Decode an encoded picture as a viewer would show it: upright, 8-bit RGB, transparency over white.

    Of an animation the first frame is taken. Memory stays within a small multiple of `max_pixels`: the size is read
    from the header and refused before decoding. Raises the ImageErrors above.
    """
    image, _ = _opened(data, max_pixels).load()
    return _seen(image)


def decode_marked(data: bytes, max_pixels: int) -> tuple[Image.Image, xmp.Mark | None]:
    """Decode as `decode` does; also what the picture's XMP says about its origin."""
    image, _ = _opened(data, max_pixels).load()
    return _seen(image), xmp.read(image, data)


def size_of(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Width and height of an encoded picture as its header tells them, before it is turned upright.

    Raises ImageErrors.
    """
    return _opened(data, max_pixels).image.size


def decode_preview(data: bytes, max_pixels: int, longest: int) -> tuple[Image.Image, tuple[int, int]]:
    """Decode as `decode` does, but a JPEG much longer than `longest` at a fraction of its size, which is much faster.

    Returns the picture, no side of which is shorter than requested, and the size that `decode` would give.
    """
    image, size = _opened(data, max_pixels).load(longest)
    return _seen(image), size


def decode_photo(data: bytes, max_pixels: int) -> Photo:
    """Decode as `decode` does, but keep what another file of the picture is to have as well."""
    opened = _opened(data, max_pixels)
    image, _ = opened.load()
    return Photo(
        *_separated(image),
        profile=colour.profile_of(image),
        greyscale=colour.has_no_colours(image),
        dpi=metadata.resolution_of(image),
        exif=metadata.exif_of(image),
        coding=opened.prepared.coding(opened.image),
    )


def may_end_early(data: bytes) -> bool:
    """Whether `ends_early` has to be asked, which takes longer."""
    return data.startswith(jpeg.SIGNATURE) and not data.endswith(jpeg.END)


def ends_early(data: bytes, max_pixels: int) -> bool:
    """Whether a picture is shown although its file is cut: a JPEG without its end marker. Raises as `decode`.

    What is missing of it, at most its last rows, is grey; a progressive one may lack detail.
    """
    return may_end_early(data) and not jpeg.parse(data, max_pixels).complete


@dataclass(frozen=True)
class _Opened:
    """A picture whose header was read."""

    image: Image.Image
    prepared: Prepared

    def load(self, longest: int | None = None) -> tuple[Image.Image, tuple[int, int]]:
        """The first frame, upright, in its own mode, and its width and height; with `longest`, a JPEG may come smaller.

        Raises BrokenImageError.
        """
        image = self.image
        width, height = image.size
        with _damage_is_broken(image.format):
            if longest is not None and max(width, height) > longest:
                image.draft(None, (width * longest // max(width, height), height * longest // max(width, height)))
            image.load()
            image = self.prepared.finish(image)
        if image.mode == "P" and image.palette is None:
            raise BrokenImageError(f"the {image.format} image has no palette for its colours")
        if self.prepared.buffered:
            image = _alone(image)
        lying = image.size
        upright = _upright(image)
        return upright, (width, height) if upright.size == lying else (height, width)


def _opened(data: bytes, max_pixels: int) -> _Opened:
    """The picture, not yet decoded, of at most so many pixels. Raises ImageErrors."""
    if not data:
        raise BrokenImageError("the image is empty (0 bytes)")
    kind = kind_of(data)
    if kind is None:
        accepted = ", ".join((*ACCEPTED_FORMATS, *(("HEIC",) if _reads_heic() else ())))
        raise UnsupportedImageError(f"the data is not an image of an accepted format ({accepted})")
    if kind == "HEIF" and not _reads_heic():
        raise UnsupportedImageError(_NO_HEIC)
    prepared = _PREPARE[kind](data, max_pixels)
    try:
        image = Image.open(io.BytesIO(prepared.data), formats=[kind])
    except UnidentifiedImageError as exc:
        if kind == "TIFF":  # its structure is in order
            raise UnsupportedImageError("the TIFF image has samples or colours that are not accepted") from exc
        raise BrokenImageError("the image's header is truncated or corrupt") from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise ImageTooLargeError(f"the image has too many pixels; at most {max_pixels} are accepted") from exc
    except MemoryError:
        raise
    except Exception as exc:  # a damaged header raises whatever the format's parser trips over
        raise BrokenImageError("the image's header cannot be read") from exc
    image.info.update(prepared.info)
    check_size(*image.size, max_pixels)
    if colour.takes_profile(image):
        check_size(*image.size, max_pixels // 2, "of colours that a profile converts (CMYK, Lab)")
    has_colours = image.mode != "P" or image.palette is not None
    if has_colours and image.has_transparency_data:  # separating it takes as long as decoding
        check_size(*image.size, max_pixels // 2, "of an image with transparency")
    return _Opened(image, prepared)


def kind_of(data: bytes) -> str | None:
    """Pillow's name of the accepted format that a file begins like, if any."""
    for name, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            return name
    if data.startswith(b"RIFF") and data[8:12] in (b"WEBP", b""):
        return "WEBP"
    return "BMP" if bmp.is_bmp(data) else isobmff.format_of(data)


@lru_cache
def _reads_heic() -> bool:
    """Whether the package for HEIC is there, which Pillow is told of."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    return True


def _seen(image: Image.Image) -> Image.Image:
    """RGB, as a viewer shows it."""
    return colour.over_white(*_separated(image))


def _separated(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    with _damage_is_broken(image.format):  # to a palette that lacks a colour, for one
        return colour.separated(image)


@contextlib.contextmanager
def _damage_is_broken(kind: str | None) -> Iterator[None]:
    """Whatever a parser trips over is a BrokenImageError."""
    try:
        yield
    except (MemoryError, ImageError):
        raise  # the one is the machine's fault, not the picture's
    except Exception as exc:  # OSError, SyntaxError, struct.error, ... depending on the format and the damage
        raise BrokenImageError(f"the {kind or 'decoded'} image is truncated or corrupt") from exc


def _alone(image: Image.Image) -> Image.Image:
    """A decoded picture without its decoder, which holds copies of it."""
    if image.fp is not None:
        image.fp.close()
    alone = image.copy()
    alone.format = image.format
    return alone


def _upright(image: Image.Image) -> Image.Image:
    packet = image.info.pop("xmp", None)  # of which viewers ignore the orientation
    with contextlib.suppress(Exception):  # a viewer ignores an unreadable EXIF block, and so do we
        ImageOps.exif_transpose(image, in_place=True)
    if packet is not None:
        image.info["xmp"] = packet
    return image
