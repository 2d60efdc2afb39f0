"""Pictures on disk: what a suffix means, and files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp", ".gif": "gif"}
FORMATS |= {".jpe": "jpeg", ".jfif": "jpeg"}
# Of pictures that are read, with the format of their results where that is their own.
READ = FORMATS | dict.fromkeys((".bmp", ".tif", ".tiff"), "png") | dict.fromkeys((".avif", ".heic", ".heif"), "jpeg")


def write(path: Path, data: bytes) -> None:
    """Write `data` beside `path` and rename it into place. Raises OSError."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(partial, 0o666 & ~_umask())
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def _umask() -> int:
    # There is no call that only reads it.
    current = os.umask(0o022)
    os.umask(current)
    return current
