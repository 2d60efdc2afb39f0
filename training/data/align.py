"""Photographs with one face each, brought into CelebA's layout: every face upright, in the same place, of one size.

Faces and their landmarks are found as the service finds them. A picture is refused that shows nobody, several people of
about the same size, or a face of too few pixels; the reasons are listed in DATA/refused.csv.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from service import system
from service.errors import ImageError
from service.imaging import alignment, codecs
from training import files
from training.config import DataConfig
from training.data import dataset, lists
from training.data.dataset import DatasetError
from training.data.lists import SUFFIXES

REFUSED = "refused.csv"
_SEVERAL = 0.5  # of the largest face's area, from which another one makes it unclear whose labels these are
_ENLARGED = 2.0  # times that a face may be enlarged at most


class Face(Protocol):
    """What a finder finds: `landmarks` f64 [5, 2] in the picture's pixels, and an `area`."""

    landmarks: np.ndarray

    @property
    def area(self) -> float: ...


class Finder(Protocol):
    """`service.faces.detector.Detector`."""

    def detect(self, image: Image.Image) -> list[Face]:
        """The faces of an upright RGB picture, largest first; from several threads at once."""


class RefusedError(ValueError):
    """A picture that is of no use; the message says why."""


@dataclass(frozen=True)
class Aligned:
    """How many pictures were aligned, and by file name why others were not."""

    pictures: int
    refused: dict[str, str]


def align(image: Image.Image, finder: Finder, data: DataConfig) -> np.ndarray:
    """The face of an upright RGB picture as `data` frames aligned pictures, uint8 [H, W, 3]. Raises RefusedError."""
    faces = finder.detect(image)
    if not faces:
        raise RefusedError("no face was found")
    several = sum(face.area > _SEVERAL * faces[0].area for face in faces)
    if several > 1:
        raise RefusedError(f"{several} faces of about the same size; labels can belong to one only")
    matrix = alignment.similarity(np.array(data.landmarks), faces[0].landmarks)
    if (pixels := alignment.scale(matrix)) < 1 / _ENLARGED:
        raise RefusedError(f"the face is too small: {pixels:.2f} pixels for each one of an aligned picture")
    width, height = data.aligned_size
    side = max(width, height)
    return alignment.sample(image, matrix, side)[:height, :width]


def write(
    pictures: Path,
    out: Path,
    finder: Finder,
    data: DataConfig,
    labels: Path | None = None,
    identities: Path | None = None,
    validation: float = 0.1,
) -> Aligned:
    """Write a directory in CelebA's layout with the faces of the pictures in `pictures`.

    With `labels`, a list of attributes, and `identities`, a list of people, the lines of aligned pictures go along, and
    a share of `validation` of the people, or of the pictures where people are not known, becomes the validation
    partition. Raises DatasetError if `out` exists, `pictures` has none, a list cannot be used, or nothing is left.
    """
    if out.exists():
        raise DatasetError(f"{out}: exists already")
    names = _names(pictures)
    known = None if labels is None else lists.read_labels(labels)
    people = {} if identities is None else lists.read_column(identities)
    with files.appearing(out) as temporary:
        (temporary / dataset.IMAGES).mkdir()
        refused = _write_pictures(pictures, names, temporary / dataset.IMAGES, finder, data, known)
        kept = [lists.stem(name) for name in names if name not in refused]
        if not kept:
            raise DatasetError(f"{pictures}: none of {len(names)} pictures can be used: {next(iter(refused.values()))}")
        _write_table(temporary / REFUSED, ["image_id", "reason"], refused.items())
        if known is not None:
            attributes, rows = known
            columns = ((f"{stem}.png", *rows[stem].values.tolist()) for stem in kept)
            _write_table(temporary / dataset.table_of(dataset.LABELS), ["image_id", *attributes], columns)
            parts = ((f"{stem}.png", int(_held_out(str(people.get(stem, stem)), validation))) for stem in kept)
            _write_table(temporary / dataset.table_of(dataset.PARTITIONS), ["image_id", "partition"], parts)
        if people:
            found = ((f"{stem}.png", people[stem]) for stem in kept if stem in people)
            _write_table(temporary / dataset.table_of(dataset.IDENTITIES), ["image_id", "identity"], found)
    return Aligned(len(kept), refused)


def _names(pictures: Path) -> list[str]:
    try:
        names = sorted(path.name for path in pictures.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as exc:
        raise DatasetError(f"{pictures}: {exc.strerror}") from exc
    if not names:
        raise DatasetError(f"{pictures}: holds no picture ({', '.join(SUFFIXES)})")
    stems: dict[str, str] = {}
    for name in names:
        if (twin := stems.setdefault(lists.stem(name), name)) != name:
            raise DatasetError(f"{pictures / twin} and {pictures / name}: two pictures of one stem")
    return names


def _write_pictures(
    pictures: Path,
    names: list[str],
    out: Path,
    finder: Finder,
    data: DataConfig,
    known: tuple[list[str], dict[str, lists.Labels]] | None,
) -> dict[str, str]:
    """Align and write; returns the reasons for what was refused."""

    def one(name: str) -> str | None:
        stem = lists.stem(name)
        if known is not None and stem not in known[1]:
            return "has no labels"
        try:
            image = codecs.decode((pictures / name).read_bytes(), dataset.MAX_PIXELS)
            face = align(image, finder, data)
        except (ImageError, RefusedError) as exc:
            return str(exc)
        Image.fromarray(face).save(out / f"{stem}.png")
        return None

    with ThreadPoolExecutor(system.available_cores()) as pool:
        reasons = list(tqdm(pool.map(one, names), total=len(names), desc="aligning", unit="picture", mininterval=1.0))
    return {name: reason for name, reason in zip(names, reasons, strict=True) if reason is not None}


def _held_out(key: str, share: float) -> bool:
    """The same answer for the same person or picture, whatever others there are."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) < share * 2**64


def _write_table(path: Path, header: list[str], rows: Iterable[Iterable]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
