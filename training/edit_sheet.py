"""A contact sheet of edits of photographs, through the service: a row for each picture, untouched and then edited."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from service.errors import ImageError
from service.imaging import codecs, contact_sheets
from training.config import ConfigError
from training.data.dataset import MAX_PIXELS, DatasetError
from training.evaluation.editing import EditingError, Editor, side_by_side

COLUMNS = (
    "Smiling",
    "Mouth_Slightly_Open",
    "Eyeglasses",
    "Bangs",
    "Black_Hair",
    "Blond_Hair",
    "No_Beard",
    "Mustache",
    "Bald",
    "Gray_Hair",
    "Heavy_Makeup",
    "Male",
    "Young",
)
_SURROUNDINGS = 1.8  # sides of a face's box that are shown
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def parse_columns(words: list[str] | None, names: list[str]) -> list[tuple[str, float | None]]:
    """Attributes and what each becomes; None turns over what the face shows. Each word is NAME or NAME=VALUE.

    Without words, those of COLUMNS that are among the model's `names`. Raises ConfigError.
    """
    if words is None:
        return [(name, None) for name in COLUMNS if name in names]
    columns = []
    for word in words:
        name, equals, text = word.partition("=")
        if name not in names:
            raise ConfigError(f"column {word!r}: the model has no attribute {name!r}; it has {', '.join(names)}")
        try:
            columns.append((name, float(text) if equals else None))
        except ValueError as exc:
            raise ConfigError(f"column {word!r}: {text!r} must be a number, -1 absent to 1 present") from exc
    return columns


def pictures_in(folder: Path, most: int | None = None) -> list[Path]:
    """The picture files of a folder, by name. Raises DatasetError where there is none."""
    found = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in _SUFFIXES)[:most]
    if not found:
        raise DatasetError(f"{folder}: holds no picture ({', '.join(sorted(_SUFFIXES))})")
    return found


def draw(editor: Editor, pictures: list[Path], columns: list[tuple[str, float | None]], side: int) -> Image.Image:
    """The sheet, of square cells of `side` pixels that show the largest face; a sign says which way an edit went.

    Raises EditingError that names the picture.
    """
    rows = []
    for path in pictures:
        try:
            rows.append(_row(editor, path.read_bytes(), columns, side))
        except (EditingError, ImageError, OSError) as exc:
            raise EditingError(f"{path}: {exc}") from exc
    return contact_sheets.labelled(np.stack(rows), ["untouched", *(name.replace("_", " ") for name, _ in columns)])


def _row(editor: Editor, data: bytes, columns: list[tuple[str, float | None]], side: int) -> np.ndarray:
    """uint8 [1 + C, side, side, 3]."""
    photo = codecs.decode(data, MAX_PIXELS)
    current, face = editor.estimates(data)
    box = surroundings(face, photo.size)
    targets = [(name, -np.sign(current[name]) or 1.0 if value is None else value) for name, value in columns]
    edited = side_by_side(lambda target: editor.edit(data, dict([target])), targets)
    cells = [codecs.crop_resize(photo, box, side)]
    for picture, (_, value) in zip(edited, targets, strict=True):
        cells.append(_signed(codecs.crop_resize(Image.fromarray(picture), box, side), "+" if value > 0 else "-"))
    return np.stack(cells)


def surroundings(face: codecs.Box, size: tuple[int, int]) -> codecs.Box:
    """A square round a face's box, within a picture of that width and height where it is large enough."""
    left, top, right, bottom = face
    side = min(_SURROUNDINGS * max(right - left, bottom - top), *size)
    x, y = ((low + high - side) / 2 for low, high in ((left, right), (top, bottom)))
    x, y = (float(np.clip(at, 0, length - side)) for at, length in ((x, size[0]), (y, size[1])))
    return x, y, x + side, y + side


def _signed(cell: np.ndarray, sign: str) -> np.ndarray:
    picture = Image.fromarray(cell)
    font = ImageFont.load_default(max(11, len(cell) // 12))
    position = (3, len(cell) - 2)
    ImageDraw.Draw(picture).text(position, sign, "white", font, anchor="lb", stroke_width=2, stroke_fill="black")
    return np.asarray(picture)
