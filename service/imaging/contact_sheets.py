"""Several pictures in one file: a labelled contact sheet, an animation, or a ZIP archive."""

from __future__ import annotations

import io
import zipfile
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service.imaging import codecs, xmp

_FONT_SIZE, _GAP = 11, 3
_LINE = _FONT_SIZE + 2 * _GAP
# The earliest date of ZIP, always, so that equal pictures give equal archives.
_NO_DATE = (1980, 1, 1, 0, 0, 0)


def labelled(pictures: np.ndarray, columns: list[str], rows: list[str] | None = None) -> Image.Image:
    """The contact sheet of uint8 [R, C, H, W, 3], with headings of the columns and optional names of the rows."""
    _, across, height, width, _ = pictures.shape
    sheet = codecs.grid(pictures.reshape(-1, height, width, 3), columns=across)
    font = ImageFont.load_default(_FONT_SIZE)
    left = max((int(font.getlength(name)) for name in rows or []), default=-2 * _GAP) + 2 * _GAP
    figure = Image.new("RGB", (left + sheet.shape[1], _LINE + sheet.shape[0]), "white")
    figure.paste(Image.fromarray(sheet), (left, _LINE))
    draw = ImageDraw.Draw(figure)
    for column, heading in enumerate(columns):
        draw.text(
            (left + column * width + _GAP, _GAP), _fitting(heading, width - 2 * _GAP, font), fill="black", font=font
        )
    for row, name in enumerate(rows or []):
        middle = _LINE + (2 * row + 1) * height // 2
        draw.text((_GAP, middle), name, fill="black", font=font, anchor="lm")
    return figure


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """The longest beginning of the text that fits into `width` pixels."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


def animation(
    frames: np.ndarray, kind: Literal["webp", "gif"], milliseconds: int, quality: int | None = None, packet: bytes = b""
) -> bytes:
    """An endless animation of uint8 [T, H, W, 3], forwards and backwards, with `milliseconds` per frame.

    `packet` is an XMP packet; empty for none.
    """
    images = [Image.fromarray(frame) for frame in [*frames, *frames[-2:0:-1]]]
    options = {"save_all": True, "append_images": images[1:], "duration": milliseconds, "loop": 0}
    if kind == "webp":
        options |= {"quality": quality or codecs.QUALITY, "method": 0, "xmp": packet}
    buffer = io.BytesIO()
    images[0].save(buffer, kind.upper(), **options)
    return xmp.into_gif(buffer.getvalue(), packet) if kind == "gif" else buffer.getvalue()


def archive(files: dict[str, bytes]) -> bytes:
    """The ZIP of files by name, without compression, since pictures are compressed already."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name, data in files.items():
            target.writestr(zipfile.ZipInfo(name, _NO_DATE), data)
    return buffer.getvalue()
