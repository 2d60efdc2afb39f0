"""Several pictures as one: a labelled grid, an animation, or an archive."""

from __future__ import annotations

import io
import zipfile
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service import images, xmp

_FONT_SIZE, _GAP = 11, 3
_LINE = _FONT_SIZE + 2 * _GAP
# The first day that ZIP can express: equal pictures make equal archives.
_NO_DATE = (1980, 1, 1, 0, 0, 0)


def labelled(pictures: np.ndarray, columns: list[str], rows: list[str] | None = None) -> Image.Image:
    """uint8 [R, C, H, W, 3] with a heading over each column and, if given, a name before each row."""
    _, across, height, width, _ = pictures.shape
    sheet = images.grid(pictures.reshape(-1, height, width, 3), columns=across)
    font = ImageFont.load_default(_FONT_SIZE)
    left = max((int(font.getlength(name)) for name in rows or []), default=-2 * _GAP) + 2 * _GAP
    figure = Image.new("RGB", (left + sheet.shape[1], _LINE + sheet.shape[0]), "white")
    figure.paste(Image.fromarray(sheet), (left, _LINE))
    draw = ImageDraw.Draw(figure)
    for place, heading in enumerate(columns):
        draw.text(
            (left + place * width + _GAP, _GAP), _fitting(heading, width - 2 * _GAP, font), fill="black", font=font
        )
    for place, name in enumerate(rows or []):
        middle = _LINE + (2 * place + 1) * height // 2
        draw.text((_GAP, middle), name, fill="black", font=font, anchor="lm")
    return figure


def _fitting(text: str, width: int, font: ImageFont.FreeTypeFont) -> str:
    """As much of the beginning as fits."""
    while text and font.getlength(text) > width:
        text = text[:-1]
    return text


def animation(
    frames: np.ndarray, kind: Literal["webp", "gif"], milliseconds: int, quality: int = 90, packet: bytes = b""
) -> bytes:
    """uint8 [T, H, W, 3] as a film that goes there and back for ever, each frame shown for `milliseconds`.

    `packet` is the XMP that the file carries, none if empty.
    """
    film = [Image.fromarray(frame) for frame in [*frames, *frames[-2:0:-1]]]
    options = {"save_all": True, "append_images": film[1:], "duration": milliseconds, "loop": 0}
    if kind == "webp":
        options |= {"quality": quality, "method": 0, "xmp": packet}
    buffer = io.BytesIO()
    film[0].save(buffer, kind.upper(), **options)
    return xmp.into_gif(buffer.getvalue(), packet) if kind == "gif" else buffer.getvalue()


def archive(files: dict[str, bytes]) -> bytes:
    """Files by name as a ZIP; pictures are compressed already and are only stored."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name, data in files.items():
            target.writestr(zipfile.ZipInfo(name, _NO_DATE), data)
    return buffer.getvalue()
