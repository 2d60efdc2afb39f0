"""CelebA's lists, in its own text files or as comma-separated values with a header, as on Kaggle.

Pictures are known by stem, the name without its extension: the lists may name another one than the pictures have.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
_KEY = "image_id"
_LARGEST = 2**31 - 1

Rows = Iterator[tuple[int, str, list[str]]]  # the line's number, the picture's name, and its values


class DatasetError(ValueError):
    """The data cannot be used; the message names the file, and the line or the rule."""


@dataclass(frozen=True)
class Labels:
    """A line of the attribute list: the picture's name there, and int8 [K] in {-1, +1}."""

    name: str
    values: np.ndarray


def stem(name: str) -> str:
    """What a picture's file and its lines have in common: the name without the extension of a picture."""
    before, suffix = os.path.splitext(name)
    return before if suffix.lower() in SUFFIXES else name


def find(root: Path, name: str) -> Path | None:
    """The list that is called `name` as text; None if there is none. Raises DatasetError if there are two."""
    candidates = [root / name, (root / name).with_suffix(".csv")]
    found = [path for path in candidates if path.exists()]
    if len(found) > 1:
        raise DatasetError(f"{found[0]} and {found[1]}: the same list twice; keep one of them")
    return found[0] if found else None


def require(root: Path, name: str) -> Path:
    """As `find`, but raises DatasetError if there is none."""
    path = find(root, name)
    if path is None:
        other = Path(name).with_suffix(".csv")
        raise DatasetError(f"{root / name}: missing; CelebA's layout needs it, or {other} instead of it")
    return path


def read_labels(path: Path) -> tuple[list[str], dict[str, Labels]]:
    """The attributes' names, and by stem what is known of each picture. Raises DatasetError for a malformed line.

    Absent is -1 in text files, and -1 or 0 throughout in the others.
    """
    table = _is_table(path)
    names, count, rows = _table(path) if table else _text_with_header(path)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DatasetError(f"{path}: the header names {twice[0]!r} twice")
    absent = {"-1", "0"} if table else {"-1"}
    rule = "labels are 1 or -1, or 1 or 0" if table else "labels are -1 or 1"
    absences: set[str] = set()
    labels: dict[str, Labels] = {}
    for number, name, values in rows:
        if len(values) != len(names):
            raise DatasetError(f"{path}:{number}: {name} has {len(values)} labels; the header names {len(names)}")
        found = set(values) - {"1"}
        if bad := sorted(found - absent):
            raise DatasetError(f"{path}:{number}: {name} has the label {bad[0]!r}; {rule}")
        absences |= found
        if len(absences) > 1:
            raise DatasetError(f"{path}:{number}: {name} is where 0 and -1 meet; in one list absent is one of them")
        if stem(name) in labels:
            raise DatasetError(f"{path}:{number}: {name} stands twice")
        labels[stem(name)] = Labels(name, np.where(np.array(values) == "1", 1, -1).astype(np.int8))
    if count is not None and len(labels) != count:
        raise DatasetError(f"{path}: line 1 promises {count} pictures, {len(labels)} follow")
    return names, labels


def columns(
    source: Path, known: list[str], attributes: list[str], aliases: Mapping[str, list[str]] | None = None
) -> list[str]:
    """What each attribute is called among those that are `known`: as it is, or by one of its aliases.

    Raises DatasetError that names `source`, where they are known from, for one that is not there, or there twice.
    """
    found = []
    for name in attributes:
        names = [each for each in (name, *(aliases or {}).get(name, [])) if each in known]
        if not names:
            raise DatasetError(f"{source}: has no attribute {name!r}; it has {', '.join(known)}")
        if len(names) > 1:
            raise DatasetError(f"{source}: has {names[0]!r} and {names[1]!r}, which are the same attribute")
        found.append(names[0])
    return found


def read_column(path: Path, allowed: set[str] | None = None) -> dict[str, int]:
    """A number for each stem, of those allowed if any are named. Raises DatasetError for a malformed line."""
    if _is_table(path):
        names, _, rows = _table(path)
        if len(names) != 1:
            raise DatasetError(f"{path}:1: the header has {len(names)} columns beside {_KEY}; expected one")
    else:
        rows = _text(_lines(path), 1)
    rule = f"one of {', '.join(sorted(allowed))}" if allowed else f"a number up to {_LARGEST}"
    column: dict[str, int] = {}
    for number, name, values in rows:
        value = " ".join(values)
        if _number(value) is None or (allowed and value not in allowed):
            raise DatasetError(f"{path}:{number}: {name} has the value {value!r}; expected {rule}")
        if stem(name) in column:
            raise DatasetError(f"{path}:{number}: {name} stands twice")
        column[stem(name)] = int(value)
    return column


def _is_table(path: Path) -> bool:
    return path.suffix == ".csv"


def _number(text: str) -> int | None:
    """The number that plain digits write, if it fits into 32 bits."""
    decimal = text.isascii() and text.isdigit() and len(text) <= len(str(_LARGEST))
    return int(text) if decimal and int(text) <= _LARGEST else None


def _text_with_header(path: Path) -> tuple[list[str], int, Rows]:
    lines = _lines(path)
    first, header = ([line.strip() for line in lines[:2]] + ["", ""])[:2]
    count = _number(first)
    if count is None:
        raise DatasetError(f"{path}:1: expected the number of pictures, found {first[:40]!r}")
    return header.split(), count, _text(lines[2:], 3)


def _lines(path: Path) -> list[str]:
    return list(io.StringIO(_content(path), newline=None))


def _text(lines: list[str], first: int) -> Rows:
    """Lines of a name and values; the first one's number is `first`."""
    for number, line in enumerate(lines, start=first):
        if line.strip():
            name, *values = line.split()
            yield number, name, values


def _table(path: Path) -> tuple[list[str], None, Rows]:
    rows = _csv(path)
    number, header = next(rows, (1, []))
    if header.count(_KEY) != 1:
        shown = ", ".join(header)[:80]
        raise DatasetError(f"{path}:{number}: the header must have one column {_KEY}, and has {shown!r}")
    if "" in header:
        raise DatasetError(f"{path}:{number}: column {header.index('') + 1} has no name")
    key = header.index(_KEY)
    return header[:key] + header[key + 1 :], None, _rows_of(path, rows, key)


def _rows_of(path: Path, rows: Iterator[tuple[int, list[str]]], key: int) -> Rows:
    for number, fields in rows:
        if len(fields) <= key or not fields[key]:
            raise DatasetError(f"{path}:{number}: has no {_KEY}")
        yield number, fields[key], fields[:key] + fields[key + 1 :]


def _csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(_content(path), newline=""), strict=True)
    try:
        for fields in reader:
            if fields:
                yield reader.line_num, [field.strip() for field in fields]
    except csv.Error as exc:
        raise DatasetError(f"{path}:{reader.line_num}: {exc}") from exc


def _content(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise DatasetError(f"{path}: {exc.strerror}") from exc
    try:
        return data.decode("utf-8-sig")  # without the mark that some programs begin a file with
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise DatasetError(f"{path}:{line}: has the byte 0x{data[exc.start]:02x}, which is not UTF-8") from exc
