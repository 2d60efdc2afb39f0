"""Labelled faces in CelebA's own layout, and their pixels resized once and kept.

DIR/img_align_celeba/000001.jpg ...
DIR/list_attr_celeba.txt       a count, the attribute names, then a line of -1/1 per picture
DIR/list_eval_partition.txt    0 training, 1 validation, 2 test
DIR/identity_CelebA.txt        optional; who is on the picture

A picture belongs to its lines by stem: what the lists call 000001.jpg may lie there as 000001.webp, as in CelebA's own
PNG edition.

Each list may be a .csv of the same name instead, as Kaggle has them: a header with the column image_id (of attributes:
and a column for each; else: and one column), then a line of 1/-1 or 1/0 per picture, or of a number.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from PIL import Image
from tqdm import tqdm

from service import system
from service.errors import ImageError
from service.imaging import codecs
from training.config import DataConfig
from training.data import lists
from training.data.cache import kept
from training.data.lists import DatasetError

IMAGES = "img_align_celeba"
LABELS = "list_attr_celeba.txt"
PARTITIONS = "list_eval_partition.txt"
IDENTITIES = "identity_CelebA.txt"

Partition = Literal["train", "validation", "test"]
_PARTITION_CODES: dict[str, int] = {"train": 0, "validation": 1, "test": 2}
_CODES = {str(code) for code in _PARTITION_CODES.values()}
_MAX_NAMED = 5
MAX_PIXELS = 2**26  # of a picture before it is framed


class Pictures(Protocol):
    """Encoded pictures in rows 0 to N - 1: a `FaceIndex`, or `training.data.shards.ShardedFaces`."""

    def __len__(self) -> int: ...

    def encoded(self, row: int) -> bytes:
        """The picture's file as it is. Raises OSError or DatasetError."""

    def location(self, row: int) -> str:
        """Where that is, for messages."""

    def fingerprint(self) -> str:
        """sha256 that other pictures, or other files for them, do not share; for caches on this machine."""


@dataclass(frozen=True)
class FaceIndex:
    """Which pictures there are and what they show; no pixels.

    `names` are those of the files, which may have another extension than in the lists; rows are in the order of the
    lists' names. `labels` int8 [N, K] in {-1, +1}; `identities` int32 [N], -1 where unknown.
    """

    root: Path
    names: list[str]
    attributes: list[str]
    labels: np.ndarray
    identities: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def path(self, row: int) -> Path:
        return self.root / IMAGES / self.names[row]

    def encoded(self, row: int) -> bytes:
        return self.path(row).read_bytes()

    def location(self, row: int) -> str:
        return str(self.path(row))

    def stamps(self) -> list[tuple[str, int, int]]:
        """Name, size and time of change of each picture's file."""
        stats = (os.stat(self.path(row)) for row in range(len(self)))
        return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in zip(self.names, stats, strict=True)]

    def fingerprint(self) -> str:
        facts = [str(self.root.resolve()), self.stamps()]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def digest(self) -> str:
        """sha256 over names and labels, so that a manifest can say exactly which data a model saw."""
        digest = hashlib.sha256("\n".join([*self.attributes, *self.names]).encode())
        digest.update(np.ascontiguousarray(self.labels, dtype=np.int8).tobytes())
        return digest.hexdigest()


def index_of(root: Path, config: DataConfig, partition: Partition) -> FaceIndex:
    """The pictures and labels that a configuration names. Raises DatasetError as `read_index` does."""
    limit = config.limit if partition == "train" else None
    return read_index(root, config.labels, partition, limit, config.aliases)


def read_index(
    root: Path,
    attributes: list[str],
    partition: Partition,
    limit: int | None = None,
    aliases: Mapping[str, list[str]] | None = None,
) -> FaceIndex:
    """Read and check the label files. `limit` keeps the first pictures in file-name order.

    Raises DatasetError for a missing file, an unknown attribute, a malformed line, a label without an image, an
    image without a label, two images of one stem, a picture without a partition, or an empty partition.
    """
    root = Path(root)
    labels, parts = lists.require(root, LABELS), lists.require(root, PARTITIONS)
    if not (root / IMAGES).is_dir():
        raise DatasetError(f"{root / IMAGES}: missing; CelebA's layout needs it")
    known, listed = lists.read_labels(labels)
    files = _files(root, labels, listed)
    columns = [known.index(name) for name in lists.columns(labels, known, attributes, aliases)]
    partitions = lists.read_column(parts, _CODES)
    if missing := sorted(listed[stem].name for stem in listed.keys() - partitions.keys()):
        raise DatasetError(f"{parts}: no line for {_some(missing)}")
    chosen = [stem for stem in listed if partitions[stem] == _PARTITION_CODES[partition]]
    stems = sorted(chosen, key=lambda stem: listed[stem].name)[:limit]
    if not stems:
        raise DatasetError(f"{parts}: no picture in the {partition} partition")
    people = lists.find(root, IDENTITIES)
    identities = lists.read_column(people) if people else {}
    return FaceIndex(
        root=root,
        names=[files[stem] for stem in stems],
        attributes=list(attributes),
        labels=np.stack([listed[stem].values for stem in stems])[:, columns],
        identities=np.array([identities.get(stem, -1) for stem in stems], dtype=np.int32),
    )


def table_of(name: str) -> str:
    """The name of a list as comma-separated values."""
    return str(Path(name).with_suffix(".csv"))


def attribute_names(root: Path) -> list[str]:
    """All attributes that there are labels for. Raises DatasetError as `read_index` does."""
    return lists.read_labels(lists.require(Path(root), LABELS))[0]


def partitions(root: Path) -> list[Partition]:
    """The partitions that have pictures. Raises DatasetError as `read_index` does."""
    codes = set(lists.read_column(lists.require(Path(root), PARTITIONS), _CODES).values())
    return [name for name, code in _PARTITION_CODES.items() if code in codes]


def strangers(index: FaceIndex, others: FaceIndex) -> np.ndarray:
    """bool [N]: pictures of people of whom `others` has no picture; those of unknown identity count as strangers."""
    return (index.identities == -1) | ~np.isin(index.identities, others.identities)


def _files(root: Path, labels: Path, listed: dict[str, lists.Labels]) -> dict[str, str]:
    """The name of each picture's file by its stem; every line has one, and every file a line."""
    names = sorted(entry.name for entry in os.scandir(root / IMAGES) if not entry.name.startswith("."))
    if names == [IMAGES]:  # Kaggle's archive unpacks to this
        raise DatasetError(f"{root / IMAGES / IMAGES}: the pictures have to lie in {root / IMAGES} itself")
    files: dict[str, str] = {}
    for name in names:
        stem = lists.stem(name)
        if stem in files:
            twins = f"{root / IMAGES / files[stem]} and {root / IMAGES / name}"
            raise DatasetError(f"{twins}: two pictures of one stem; a label can belong to one only")
        files[stem] = name
    if lost := sorted(listed[stem].name for stem in listed.keys() - files.keys()):
        raise DatasetError(f"{labels}: labels without an image: {_some(root / IMAGES / n for n in lost)}")
    if unlabelled := sorted(files[stem] for stem in files.keys() - listed.keys()):
        raise DatasetError(f"{labels}: images without a label: {_some(root / IMAGES / n for n in unlabelled)}")
    return files


def _some(items) -> str:
    items = [str(item) for item in items]
    more = f" and {len(items) - _MAX_NAMED} more" if len(items) > _MAX_NAMED else ""
    return ", ".join(items[:_MAX_NAMED]) + more


def load_pixels(index: FaceIndex, config: DataConfig, cache: Path, margin: int = 0) -> np.ndarray:
    """The framed faces of `index` as uint8 [N, S + 2 margin, S + 2 margin, 3], memory-mapped from `cache`.

    `margin` pixels of the model's image are kept around the crop, so that shifts show real surroundings. The first
    call decodes every picture; later calls with the same pictures and framing reuse the file. Raises DatasetError
    that names each picture that cannot be decoded, and CacheError for a cache that cannot be written.
    """
    box, side = frame_of(config, margin)

    def fill(pixels: np.ndarray) -> None:
        def decode(row: int, data: bytes) -> None:
            pixels[row] = frame(data, config, box, side)

        each_picture(index, "decoding", decode)

    return kept(cache, *cached_as(index, config, margin), fill)


def cached_as(index: FaceIndex, config: DataConfig, margin: int) -> tuple[str, tuple[int, ...]]:
    """The name and the shape under which `load_pixels` keeps them."""
    _, side = frame_of(config, margin)
    facts = [str(index.root.resolve()), config.aligned_size, config.crop_box, side, margin, index.stamps()]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return f"faces-{side}-{key}", (len(index), side, side, 3)


def each_picture(pictures: Pictures, what: str, work: Callable[[int, bytes], None]) -> None:
    """Call `work` with each row and its picture's encoded bytes, in several threads, while a bar shows progress.

    Raises DatasetError that names all pictures that cannot be read or for which `work` raises one.
    """
    broken: list[str] = []

    def one(row: int) -> None:
        try:
            work(row, pictures.encoded(row))
        except (DatasetError, OSError) as exc:
            broken.append(f"{pictures.location(row)} ({exc})")

    rows = range(len(pictures))
    with ThreadPoolExecutor(system.available_cores()) as pool:
        for _ in tqdm(pool.map(one, rows), total=len(rows), desc=what, unit="picture", mininterval=1.0):
            pass
    if broken:
        raise DatasetError(f"unusable pictures: {_some(sorted(broken))}")


def frame(data: bytes, config: DataConfig, box: codecs.Box, side: int) -> np.ndarray:
    """The face in an encoded picture, uint8 [side, side, 3]. Raises DatasetError that says what is wrong with it."""
    return codecs.crop_resize(aligned(data, config), box, side)


def aligned(data: bytes, config: DataConfig) -> Image.Image:
    """An encoded picture, decoded, of the size that it has to have. Raises DatasetError as `frame` does."""
    try:
        image = codecs.decode(data, max_pixels=MAX_PIXELS)
    except ImageError as exc:
        raise DatasetError(str(exc)) from exc
    if image.size != tuple(config.aligned_size):
        raise DatasetError(
            f"is {image.size}, expected {tuple(config.aligned_size)}; data.aligned_size, data.crop_box and "
            "data.landmarks go together and must be those of the pictures"
        )
    return image


def frame_of(config: DataConfig, margin: int) -> tuple[codecs.Box, int]:
    """The box that `frame` cuts out, with `margin` pixels of the model's image around the crop, and its side then."""
    left, top, right, bottom = config.crop_box
    x = (right - left) / config.image_size * margin
    y = (bottom - top) / config.image_size * margin
    return (left - x, top - y, right + x, bottom + y), config.image_size + 2 * margin


@dataclass(frozen=True)
class Faces:
    """Framed pictures uint8 [N, S, S, 3] with labels int8 [N, K] in {-1, +1}."""

    pixels: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> Faces:
        return Faces(self.pixels[:count], self.labels[:count])


def without_margin(pixels: np.ndarray, size: int) -> np.ndarray:
    """The centre `size` x `size` of uint8 [N, S + 2m, S + 2m, 3]."""
    margin = (pixels.shape[1] - size) // 2
    return pixels[:, margin : margin + size, margin : margin + size]


def augmented(pixels: np.ndarray, rows: np.ndarray, size: int, offsets: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """A batch of shifted and mirrored faces, uint8 [len(rows), size, size, 3].

    `pixels` uint8 [N, H, W, 3] comes from `load_pixels`; `offsets` int [len(rows), 2] is each crop's top-left
    corner (row, column); `mirrored` bool [len(rows)].
    """
    batch = np.empty((len(rows), size, size, 3), dtype=np.uint8)
    for index, (row, (y, x), mirror) in enumerate(zip(rows, offsets, mirrored, strict=True)):
        face = pixels[row, y : y + size, x : x + size]
        batch[index] = face[:, ::-1] if mirror else face
    return batch
