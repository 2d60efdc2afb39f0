"""What a batch job reads and writes: a folder of pictures, or Parquet files with a column of them.

Each piece of work writes under a name that depends on its input alone, and by rename, so that a job that was stopped
anywhere, or whose worker died, can go on: what is there is done, and what is done again replaces itself.

    <output>/_job.json        the job's parameters, so that another job is not continued by mistake
    <output>/_errors.jsonl    of a folder: an object for each picture that has no output, `source` and `error`
    <output>/_errors/         of Parquet files: the same as Parquet, with the row's other columns
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facet import files, outputs
from facet.arguments import UsageError
from facet_ray.editor import EditError, Editor

JOB, ERRORS = "_job.json", "_errors"
_STILL = ("png", "jpeg", "webp")
CHUNK = 64  # rows of a Parquet file that are written together


@dataclass(frozen=True)
class Done:
    """What became of some pictures: how many were written, and `source` and `error` of each of the others."""

    written: int
    failed: list[tuple[str, str]]


class Archive(ABC):
    """A job's input and output. Opening one reads names and sizes, no pictures; raises UsageError."""

    output: Path

    @abstractmethod
    def pending(self) -> tuple[list[dict[str, Any]], int, int]:
        """Pieces of work that are not done, the pictures in them, and the pictures that are done already."""

    @abstractmethod
    def work(self, editor: Editor, pieces: list[dict[str, Any]]) -> Iterator[Done]:
        """Do these pieces, in a worker, and tell what became of them bit by bit."""

    @abstractmethod
    def note(self, done: Done) -> None:
        """Take down, in the driver, what failed, where workers do not do so themselves."""

    @abstractmethod
    def errors(self) -> bool:
        """Whether the side table has any."""


def opened(given: Path, output: Path, image_column: str, kind: str | None) -> Archive:
    """The archive at `given`; an output inside of it is no part of it. Raises UsageError."""
    if given.suffix == ".parquet" or (given.is_dir() and any(given.rglob("*.parquet"))):
        return Tables(given, output, image_column, kind)
    return Folder(given, output, kind)


def claim(output: Path, job: dict[str, Any]) -> None:
    """Make `output` the place of this job, and of no other. Raises UsageError where it has another's results."""
    path = output / JOB
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise UsageError(f"{path}: is not readable") from exc
        if changed := sorted(name for name in job.keys() | before.keys() if job.get(name) != before.get(name)):
            raise UsageError(f"--output {output}: contains the results of another job ({', '.join(changed)} differ)")
        return
    output.mkdir(parents=True, exist_ok=True)
    files.write(path, json.dumps(job, indent=1).encode())


class Folder(Archive):
    """Pictures of a folder, each to a picture of the same name below `output`; a piece of work is one of them."""

    def __init__(self, given: Path, output: Path, kind: str | None) -> None:
        self.output = output
        self._jobs = outputs.plan([str(given)], f"{output}/", _STILL, kind, None)
        self._errors = output / f"{ERRORS}.jsonl"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_jobs": []}  # workers are told their pieces

    def pending(self) -> tuple[list[dict[str, Any]], int, int]:
        failed = self._failed()
        left = [
            {"source": str(job.source), "target": str(job.targets[0]), "kind": job.kind}
            for job in self._jobs
            if str(job.source) not in failed and not job.targets[0].exists()
        ]
        return left, len(left), len(self._jobs) - len(left)

    def work(self, editor: Editor, pieces: list[dict[str, Any]]) -> Iterator[Done]:
        pictures, failed = [], []
        for piece in pieces:
            try:
                pictures.append((piece, Path(piece["source"]).read_bytes()))
            except OSError as exc:
                failed.append((piece["source"], exc.strerror or str(exc)))
        results = editor.edit([data for _, data in pictures], [piece["kind"] for piece, _ in pictures])
        for (piece, _), result in zip(pictures, results, strict=True):
            if isinstance(result, EditError):
                failed.append((piece["source"], str(result)))
            else:
                target = Path(piece["target"])
                target.parent.mkdir(parents=True, exist_ok=True)
                files.write(target, result)
        yield Done(len(pieces) - len(failed), failed)

    def note(self, done: Done) -> None:
        if done.failed:
            with self._errors.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"source": s, "error": e}) + "\n" for s, e in done.failed)

    def errors(self) -> bool:
        return bool(self._failed())

    def _failed(self) -> set[str]:
        """Sources that are known to fail; a line that was cut off when its writer died is dropped."""
        if not self._errors.exists():
            return set()
        lines = self._errors.read_bytes().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            files.write(self._errors, b"".join(lines[:-1]))
            lines.pop()
        return {json.loads(line)["source"] for line in lines}


class Tables(Archive):
    """Rows of Parquet files, each to a row with the same columns below `output`; a piece of work is a row group."""

    def __init__(self, given: Path, output: Path, image_column: str, kind: str | None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.output, self._column, self._kind = output, image_column, kind
        self._root = given if given.is_dir() else given.parent
        inside = output.resolve() if given.is_dir() else None
        found = sorted(given.rglob("*.parquet")) if given.is_dir() else [given]
        self._groups: list[tuple[Path, int, int]] = []
        for path in found:
            if inside and path.resolve().is_relative_to(inside):
                continue
            try:
                schema, metadata = pq.read_schema(path), pq.read_metadata(path)
            except (OSError, pa.ArrowException) as exc:
                raise UsageError(f"{path}: cannot be read as Parquet") from exc
            types = {"binary", "large_binary"}
            if image_column not in schema.names or str(schema.field(image_column).type) not in types:
                raise UsageError(f"{path}: has no column {image_column!r} of bytes; it has {', '.join(schema.names)}")
            self._groups += [(path, n, metadata.row_group(n).num_rows) for n in range(metadata.num_row_groups)]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_groups": []}  # workers are told their pieces

    def pending(self) -> tuple[list[dict[str, Any]], int, int]:
        left, rows, done = [], 0, 0
        for path, group, count in self._groups:
            chunks = range(-(-count // CHUNK))
            missing = [n for n in chunks if not self._part(path, group, n).exists()]
            waiting = sum(min(CHUNK, count - n * CHUNK) for n in missing)
            rows, done = rows + waiting, done + count - waiting
            if missing:
                left.append({"file": str(path), "group": group})
        return left, rows, done

    def work(self, editor: Editor, pieces: list[dict[str, Any]]) -> Iterator[Done]:
        import pyarrow.parquet as pq

        for piece in pieces:
            path, group = Path(piece["file"]), piece["group"]
            with pq.ParquetFile(path) as file:
                for number, batch in enumerate(file.iter_batches(CHUNK, [group])):
                    part = self._part(path, group, number)
                    if not part.exists():
                        yield self._chunk(editor, batch, part, f"{path}:{group}:{number * CHUNK}")

    def note(self, done: Done) -> None:
        """Errors lie beside the part that they were left out of."""

    def errors(self) -> bool:
        return any((self.output / ERRORS).rglob("*.parquet"))

    def _chunk(self, editor: Editor, batch: Any, part: Path, place: str) -> Done:
        """Edit the rows of `batch` and write them as `part`, which is there when all is done."""
        import pyarrow as pa

        pictures = [data or b"" for data in batch.column(self._column).to_pylist()]
        results = editor.edit(pictures, [self._kind] * len(pictures))
        errors = {n: str(result) for n, result in enumerate(results) if isinstance(result, EditError)}
        index = batch.schema.get_field_index(self._column)
        table = pa.Table.from_batches([batch])
        if errors:
            reasons = table.take(list(errors)).remove_column(index).append_column("error", pa.array(errors.values()))
            _write(self.output / ERRORS / part.relative_to(self.output), reasons)
        edited = table.take([n for n in range(len(results)) if n not in errors])
        column = pa.array([each for each in results if isinstance(each, bytes)], batch.schema.field(index).type)
        _write(part, edited.set_column(index, batch.schema.field(index), column))
        return Done(len(results) - len(errors), [(f"{place}+{n}", reason) for n, reason in errors.items()])

    def _part(self, path: Path, group: int, chunk: int) -> Path:
        below = path.relative_to(self._root)
        return self.output / below.parent / f"{below.stem}-{group:05d}-{chunk:05d}.parquet"


def _write(path: Path, table: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, sink.getvalue().to_pybytes())
