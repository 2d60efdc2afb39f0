"""Pictures that callers hand over, as the bytes that are sent."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from facet.results import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

# What PNG can hold; anything else is sent as RGB.
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | IO[bytes] | Image | Picture"


def read(source: ImageSource) -> bytes:
    """The bytes of a path, of bytes, an open binary file, a Pillow image or a picture that Facet gave.

    Raises OSError for a file that cannot be read, TypeError for anything else.
    """
    if isinstance(source, str | os.PathLike):
        return Path(source).read_bytes()
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, Picture):
        return source.data
    # Whoever holds a Pillow image has imported Pillow.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(source, pillow.Image):
        return _encoded(source)
    data = source.read() if hasattr(source, "read") else None
    if not isinstance(data, bytes):
        what = "a file opened as text" if isinstance(data, str) else type(source).__name__
        raise TypeError(f"image: {what} is no picture; give a path, bytes, an open binary file or a Pillow image")
    return data


def _encoded(image: Image) -> bytes:
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image)
    buffer = io.BytesIO()
    (upright if upright.mode in _PNG_MODES else upright.convert("RGB")).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
