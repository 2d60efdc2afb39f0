"""Pictures as files."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
from PIL import Image

from service.errors import UnencodableError
from service.imaging import png
from service.imaging.codecs import isobmff, jpeg, metadata, png_chunks, webp
from service.imaging.codecs.photo import Photo

OutputFormat = Literal["png", "jpeg", "webp"]

QUALITY = 90  # of JPEG and WebP, unless it is known better
# From the coarsest that is tried where a large WebP picture has too much detail for its first partition.
_LOWER_QUALITIES = (80, 70, 60, 50)
_LARGEST_SIDES = {"jpeg": 65_500, "webp": webp.LARGEST_SIDE}
_LONGEST_EXIF = 65_000  # bytes; a segment of a JPEG holds no more
_MARK = {"jpeg": jpeg.marked, "png": png_chunks.marked, "webp": webp.marked}


def format_of(data: bytes, changed: bool = True) -> OutputFormat:
    """The format for an answer to this picture: its own, if that can be written.

    Else JPEG for AVIF and HEIC that were lossy before and have `changed`, and PNG, which changes no pixel, for all
    others.
    """
    if data.startswith(jpeg.SIGNATURE) or (changed and isobmff.format_of(data) and isobmff.is_lossy(data)):
        return "jpeg"
    return "webp" if data.startswith(b"RIFF") else "png"


def encode(pixels: np.ndarray, image_format: OutputFormat, quality: int | None = None, packet: bytes = b"") -> bytes:
    """Encode uint8 [H, W, 3], or [H, W] in grey. `quality` 1..100 is for JPEG and WebP; PNG is lossless and ignores it.

    `packet` is the XMP that the file carries, none if empty. Raises UnencodableError.
    """
    if image_format == "png":
        return png.encode(pixels, packet)
    return _saved(Image.fromarray(pixels), image_format, {"quality": quality or QUALITY, "xmp": packet})


def encode_photo(
    photo: Photo,
    image_format: OutputFormat,
    quality: int | None = None,
    packet: bytes = b"",
    keep_metadata: bool = False,
) -> bytes:
    """Encode as `encode` does, with transparency, profile, resolution and, to `keep_metadata`, EXIF data.

    Without a `quality`, a JPEG gets the tables and the subsampling of the photograph's own file, as far as that has
    such, and a WebP is lossless if its file was. JPEG knows no transparency and gets the picture over white. Raises
    UnencodableError.
    """
    exif = photo.exif if keep_metadata and len(photo.exif) <= _LONGEST_EXIF else b""
    if image_format == "png":
        size = photo.image.size
        return png.encode_bands(photo.rows, size, photo.channels, packet, photo.profile, photo.dpi, exif)
    options: dict[str, Any] = {"quality": quality or QUALITY, "xmp": packet, "icc_profile": photo.profile}
    coding = photo.coding
    if image_format == "jpeg":
        if coding.tables and quality is None:
            options |= {"quality": -1, "qtables": coding.tables, "subsampling": coding.subsampling}
            options |= {"keep_rgb": coding.rgb}
        elif coding.subsampling is not None and quality is None:
            options["subsampling"] = coding.subsampling
        options |= {"dpi": photo.dpi or (0, 0), "exif": exif and metadata.PREFIX + exif}
        return _saved(photo.flat(), "jpeg", options)
    if coding.lossless and quality is None:
        options |= {"lossless": True, "exact": True, "quality": 0}
    if photo.greyscale:
        options["icc_profile"] = None  # WebP has colours only, for which a profile of greys would be wrong
    exif = exif or (metadata.of_resolution(photo.dpi) if photo.dpi else b"")
    return _saved(photo.with_alpha(), "webp", options | {"exif": exif})


def marked(data: bytes, image_format: OutputFormat, packet: bytes, keep_metadata: bool = False) -> bytes | None:
    """The file of a sound picture as it is, but for its metadata: the XMP `packet`, orientation and resolution, and to
    `keep_metadata` all EXIF data.

    None where it is of another format, or an animation.
    """
    signature = {"jpeg": jpeg.SIGNATURE, "png": png_chunks.SIGNATURE, "webp": b"RIFF"}[image_format]
    if not data.startswith(signature):
        return None
    return _MARK[image_format](data, packet, keep_metadata)


def _saved(image: Image.Image, image_format: Literal["jpeg", "webp"], options: dict[str, Any]) -> bytes:
    largest = _LARGEST_SIDES[image_format]
    if max(image.size) > largest:
        rule = f"a {image_format.upper()} image has at most {largest} pixels across and down"
        raise UnencodableError(f"the picture is {image.width} x {image.height} pixels; {rule}")
    if image_format == "jpeg":
        return _written(image, "JPEG", options)
    # The fastest method does not compress transparency.
    options = options | {"method": 1 if image.has_transparency_data else 0}
    lower = () if options.get("lossless") else _LOWER_QUALITIES
    for quality in (options["quality"], *(each for each in lower if each < options["quality"])):
        try:
            return _written(image, "WEBP", options | {"quality": quality})
        except ValueError as exc:
            if "error 6" not in str(exc):  # its modes, at this quality, take more than the 512 kB of their partition
                raise
    raise UnencodableError("the picture has too much detail for a WEBP image of its size")


def _written(image: Image.Image, kind: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
