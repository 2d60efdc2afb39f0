"""Labelled faces in tar files, a thousand or so in each, for data sets that outgrow one directory and one cache.

DIR/shards.json            what there is: attributes, and of each shard its name, size, hash and counts
DIR/train-000000.tar       00000000.jpg, the picture's own bytes; 00000000.json, its name, identity and attributes
DIR/validation-000000.tar  ...

That is the WebDataset format, and its tools read these files. Here they are read by position, not from front to back:
headers are scanned once for each shard that comes into use, and then each process reads the bytes of just its own
pictures. So the order is one for all, whatever the number of processes, and every step of it can be gone to directly.
Each process compares a shard with its hash when it opens it for the first time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tqdm import tqdm

from service import system
from service.bundle.loader import sha256_file
from service.errors import ImageError
from service.imaging import codecs
from training import files
from training.config import DataConfig
from training.data import dataset, lists
from training.data.cache import kept
from training.data.dataset import DatasetError, FaceIndex, Faces, Partition

MANIFEST = "shards.json"
_UNPACKED = 512  # pictures in memory at a time
_MOST_OPEN = 512  # of the usual 1024 files that a process may have open


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShardFacts(_Facts):
    name: str
    pictures: int = Field(ge=1)
    size: int = Field(ge=1, description="bytes")
    sha256: str
    present: list[int] = Field(description="of each attribute, how many pictures have it")


class Manifest(_Facts):
    """What `shards.json` says."""

    format: Literal[1] = 1
    attributes: list[str]
    partitions: dict[Partition, list[ShardFacts]]


def are_in(root: Path) -> bool:
    """Whether `root` is a directory of shards, and not one in CelebA's layout."""
    return (Path(root) / MANIFEST).exists()


# -- writing ------------------------------------------------------------------------------------------------------


def write(data: Path, out: Path, pictures: int = 1000) -> Manifest:
    """Write all partitions of a directory in CelebA's layout to `out`, `pictures` to a shard, in file-name order.

    The same data give the same bytes. Raises DatasetError if `out` exists or cannot be written, for label files that
    cannot be used, and for a picture that cannot be decoded; `out` then does not come into being.
    """
    if out.exists():
        raise DatasetError(f"{out}: exists already")
    try:
        return _write(data, out, pictures)
    except BlockingIOError as exc:
        raise DatasetError(f"{exc.filename}: another process is writing there") from exc
    except OSError as exc:
        raise DatasetError(f"{out}: cannot be written: {exc.strerror}") from exc


def _write(data: Path, out: Path, pictures: int) -> Manifest:
    names = dataset.attribute_names(data)
    with files.appearing(out) as temporary:
        manifest = Manifest(
            attributes=names,
            partitions={
                name: list(_write_partition(dataset.read_index(data, names, name), name, temporary, pictures))
                for name in dataset.partitions(data)
            },
        )
        (temporary / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
    return manifest


def _write_partition(index: FaceIndex, partition: Partition, out: Path, pictures: int) -> Iterator[ShardFacts]:
    with ThreadPoolExecutor() as pool, tqdm(total=len(index), desc=partition, unit="picture", mininterval=1.0) as bar:
        for start in range(0, len(index), pictures):
            rows = range(start, min(start + pictures, len(index)))
            path = out / f"{partition}-{start // pictures:06d}.tar"
            _write_shard(path, index, rows, pool.map(lambda row: _usable(index.path(row)), rows))
            bar.update(len(rows))
            yield ShardFacts(
                name=path.name,
                pictures=len(rows),
                size=path.stat().st_size,
                sha256=sha256_file(path),
                present=(index.labels[rows] > 0).sum(0).tolist(),
            )


def _usable(path: Path) -> bytes:
    """A picture's bytes, decoded once to find out now, and not in the middle of an epoch, that it can be."""
    try:
        data = path.read_bytes()
        codecs.decode(data, max_pixels=dataset.MAX_PIXELS)
    except (ImageError, OSError) as exc:
        raise DatasetError(f"unusable picture: {path} ({exc})") from exc
    return data


def _write_shard(path: Path, index: FaceIndex, rows: range, pictures: Iterable[bytes]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for row, picture in zip(rows, pictures, strict=True):
            facts = {
                "name": index.names[row],
                "identity": int(index.identities[row]),
                "attributes": dict(zip(index.attributes, index.labels[row].tolist(), strict=True)),
            }
            _add(tar, f"{row:08d}{Path(index.names[row]).suffix.lower()}", picture)
            _add(tar, f"{row:08d}.json", json.dumps(facts, separators=(",", ":")).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # of no time and no owner
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


# -- reading ------------------------------------------------------------------------------------------------------


class _Shard:
    """One open tar file, and where its members are."""

    def __init__(self, path: Path, facts: ShardFacts) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as exc:
            raise DatasetError(f"{path}: {exc.strerror}; {MANIFEST} lists it") from exc
        weakref.finalize(self, os.close, self._file)  # readers may still be busy when it is no longer kept
        if (size := os.fstat(self._file).st_size) != facts.size:
            raise DatasetError(f"{path}: has {size} bytes; {MANIFEST} says {facts.size}")
        try:
            with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                members = [(member.name, member.offset_data, member.size) for member in tar]
        except tarfile.TarError as exc:
            raise DatasetError(f"{path}: not a readable tar file: {exc}") from exc
        if len(members) != 2 * facts.pictures:
            raise DatasetError(f"{path}: has {len(members)} members; {MANIFEST} says {facts.pictures} pictures")
        self._extents = np.array([extent for _, *extent in members], dtype=np.int64)  # [2 N, 2]

    def verify(self, facts: ShardFacts) -> None:
        """Compare all bytes with the hash they had when they were written. Raises DatasetError."""
        if (found := sha256_file(self.path)) == facts.sha256:
            return
        for row in range(facts.pictures):  # a picture that is plainly broken says more than a hash
            try:
                codecs.decode(self.picture(row), max_pixels=dataset.MAX_PIXELS)
                self.facts(row)
            except ValueError as exc:
                raise DatasetError(f"{self.path}: picture {row}: {exc}") from exc
        raise DatasetError(
            f"{self.path}: has other bytes than were written: sha256 {found}, {MANIFEST} says {facts.sha256}"
        )

    def picture(self, row: int) -> bytes:
        return self._read(2 * row)

    def facts(self, row: int) -> dict[str, Any]:
        return json.loads(self._read(2 * row + 1))

    def labels(self, row: int, attributes: list[str]) -> list[int]:
        labels = self.facts(row)["attributes"]
        return [labels[name] for name in attributes]

    def _read(self, member: int) -> bytes:
        offset, size = self._extents[member].tolist()
        return os.pread(self._file, size, offset)


class ShardedFaces:
    """A partition of a directory of shards as a `training.data.source.Source`. Only the requested pictures are read.

    Shuffled are, for each epoch anew, first the shards and then the pictures of each stretch of `data.shuffle_window`
    places. So a process has no more shards in use at a time than two stretches touch, however large the whole is.
    """

    def __init__(self, root: Path, config: DataConfig, partition: Partition, margin: int = 0) -> None:
        """`config.limit` keeps the first pictures for training. Raises DatasetError for what cannot be used."""
        self.root, self.config, self.margin, self.attributes = Path(root), config, margin, config.labels
        self.manifest = _manifest(self.root / MANIFEST)
        source, known = self.root / MANIFEST, self.manifest.attributes
        self._names = lists.columns(source, known, self.attributes, config.aliases)  # of the attributes, in the shards
        self._shards = self.manifest.partitions.get(partition, [])
        if not self._shards:
            raise DatasetError(f"{self.root / MANIFEST}: no picture in the {partition} partition")
        ends = np.cumsum([shard.pictures for shard in self._shards])
        self._count = min(int(ends[-1]), (config.limit if partition == "train" else None) or int(ends[-1]))
        self._ends = ends[: np.searchsorted(ends, self._count) + 1].clip(max=self._count)  # [S]
        self._starts = np.concatenate([[0], self._ends[:-1]])  # [S]
        self._most_open = min(_MOST_OPEN, 2 * (config.shuffle_window * len(self._ends) // self._count + 2))
        self._open: OrderedDict[int, _Shard] = OrderedDict()
        self._verified: set[int] = set()
        self._lock = threading.Lock()
        self._windows: dict[tuple[int, int, int], np.ndarray] = {}
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        self._pool = ThreadPoolExecutor(max(1, system.available_cores() // processes), thread_name_prefix="decode")

    def __len__(self) -> int:
        return self._count

    def frequencies(self) -> np.ndarray:
        columns = [self.manifest.attributes.index(name) for name in self._names]
        whole = [shard.present for shard in self._shards[: len(self._ends) - 1]]
        present = np.array(whole, dtype=np.int64).reshape(-1, len(self.manifest.attributes))[:, columns].sum(0)
        # Of the last one a limit may have cut off a part.
        last = [
            s.labels(row_in_shard, self._names)
            for s, row_in_shard in map(self._find, range(self._starts[-1], self._count))
        ]
        return ((present + (np.array(last) > 0).sum(0)) / self._count).astype(np.float32)

    def digest(self) -> str:
        shards = [shard.sha256 for shard in self._shards[: len(self._ends)]]
        return hashlib.sha256(json.dumps([self.attributes, shards, self._count]).encode()).hexdigest()

    def order(self, seed: int, epoch: int, start: int, stop: int) -> np.ndarray:
        size = self.config.shuffle_window
        first, last = start // size, (stop - 1) // size
        keys = [(seed, epoch, window) for window in range(first, last + 1)]
        self._windows = {key: self._windows[key] if key in self._windows else self._window(*key) for key in keys}
        return np.concatenate(list(self._windows.values()))[start - first * size : stop - first * size]

    def _window(self, seed: int, epoch: int, window: int) -> np.ndarray:
        shards = np.random.default_rng([seed, epoch]).permutation(len(self._ends))
        pictures = (self._ends - self._starts)[shards]
        ends = np.cumsum(pictures)
        size = self.config.shuffle_window
        places = np.arange(window * size, min((window + 1) * size, self._count))
        which = np.searchsorted(ends, places, side="right")
        rows = self._starts[shards[which]] + places - (ends - pictures)[which]
        return np.random.default_rng([seed, epoch, window, 1]).permutation(rows)

    def read(self, rows: np.ndarray) -> Faces:
        box, side = dataset.frame_of(self.config, self.margin)

        def one(row: int) -> tuple[np.ndarray, list[int]]:
            shard, row_in_shard = self._find(row)
            try:
                pixels = dataset.frame(shard.picture(row_in_shard), self.config, box, side)
                return pixels, shard.labels(row_in_shard, self._names)
            except (ValueError, KeyError) as exc:  # of the picture, of the JSON, and of a label that is not in it
                raise DatasetError(f"{shard.path}: picture {row_in_shard}: {exc}") from exc

        pixels, labels = zip(*self._pool.map(one, np.asarray(rows).tolist()), strict=True)
        return Faces(np.stack(pixels), np.array(labels, dtype=np.int8))

    def index(self) -> FaceIndex:
        """Names, labels and identities of all rows, as `dataset.read_index` finds them in CelebA's layout."""
        facts = [shard.facts(row_in_shard) for shard, row_in_shard in map(self._find, range(self._count))]
        return FaceIndex(
            root=self.root,
            names=[one["name"] for one in facts],
            attributes=list(self.attributes),
            labels=np.array([[one["attributes"][name] for name in self._names] for one in facts], dtype=np.int8),
            identities=np.array([one["identity"] for one in facts], dtype=np.int32),
        )

    def unpack(self, cache: Path) -> tuple[FaceIndex, np.ndarray]:
        """The index, and all pictures at once, uint8 [N, S + 2 margin, S + 2 margin, 3], memory-mapped from `cache`.

        For commands that look at a whole partition again and again. Raises CacheError for a cache that cannot be
        written.
        """

        def fill(pixels: np.ndarray) -> None:
            for start in tqdm(range(0, self._count, _UNPACKED), desc="decoding", unit_scale=_UNPACKED, unit="picture"):
                rows = np.arange(start, min(start + _UNPACKED, self._count))
                pixels[rows] = self.read(rows).pixels

        return self.index(), kept(cache, *self.cached_as(), fill)

    def cached_as(self) -> tuple[str, tuple[int, ...]]:
        """The name and the shape under which `unpack` keeps the pictures."""
        _, side = dataset.frame_of(self.config, self.margin)
        facts = [self.digest(), self.config.aligned_size, self.config.crop_box, side, self.margin]
        key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        return f"faces-{side}-{key}", (self._count, side, side, 3)

    def verify(self) -> None:
        """Compare all shards with their hashes now, and not when their turn comes. Raises DatasetError."""
        for start in tqdm(self._starts.tolist(), desc="verifying", unit="shard", mininterval=1.0):
            self._find(start)

    def encoded(self, row: int) -> bytes:
        shard, row_in_shard = self._find(row)
        return shard.picture(row_in_shard)

    def location(self, row: int) -> str:
        shard, row_in_shard = self._find(row)
        return f"{shard.path}: picture {row_in_shard}"

    def fingerprint(self) -> str:
        return self.digest()

    def _find(self, row: int) -> tuple[_Shard, int]:
        number = int(np.searchsorted(self._ends, row, side="right"))
        with self._lock:
            if number not in self._open:
                facts = self._shards[number]
                shard = _Shard(self.root / facts.name, facts)
                if number not in self._verified:
                    shard.verify(facts)
                    self._verified.add(number)
                self._open[number] = shard
            self._open.move_to_end(number)
            while len(self._open) > self._most_open:
                self._open.popitem(last=False)
            return self._open[number], row - int(self._starts[number])


def _manifest(path: Path) -> Manifest:
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as exc:
        raise DatasetError(f"{path}: {exc.strerror}") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        raise DatasetError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from exc
