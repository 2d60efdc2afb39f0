"""Every input has one output or one error, wherever a job was stopped before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facet.arguments import UsageError
from facet_ray import archives
from facet_ray.archives import Done, Folder, Tables
from facet_ray.editor import Editor
from service.provenance import marking
from tests.facet_ray.conftest import BROKEN, folder, painted


def finish(archive: archives.Archive, editor: Editor, pieces: int | None = None) -> list[Done]:
    """Do the first pieces that are pending, or all of them, two at a time."""
    left, told = archive.pending()[0][:pieces], []
    for start in range(0, len(left), 2):
        for done in archive.work(editor, left[start : start + 2]):
            archive.note(done)
            told.append(done)
    return told


def written(output: Path) -> set[str]:
    return {str(path.relative_to(output)) for path in output.rglob("*.jpg")}


def test_a_folder_is_edited_file_by_file(tmp_path: Path, editor: Editor):
    source = folder(tmp_path / "in", 6, broken={3})
    archive = Folder(source, tmp_path / "out", None)
    assert [len(archive.pending()[0]), *archive.pending()[1:]] == [6, 6, 0]
    told = finish(archive, editor)
    assert sum(done.written for done in told) == 5
    assert written(tmp_path / "out") == written(source) - {"odd/0003.jpg"}
    (line,) = (tmp_path / "out" / "_errors.jsonl").read_text().splitlines()
    assert json.loads(line)["source"] == str(source / "odd" / "0003.jpg")
    assert archive.errors()
    assert archive.pending() == ([], 0, 6)


def test_a_stopped_folder_goes_on_with_what_is_left(tmp_path: Path, editor: Editor):
    source, output = folder(tmp_path / "in", 8, broken={0, 5}), tmp_path / "out"
    finish(Folder(source, output, None), editor, 4)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.jpg")}
    # Torn by a writer that died, and a picture that was written while its error was not yet noted.
    with (output / "_errors.jsonl").open("a") as file:
        file.write('{"source": "/half')
    again = Folder(source, output, None)
    assert again.pending()[1:] == (4, 4)
    finish(again, editor)
    assert len(written(output)) == 6
    assert {path: path.stat().st_mtime_ns for path in before} == before
    failed = [json.loads(line)["source"] for line in (output / "_errors.jsonl").read_text().splitlines()]
    assert sorted(Path(each).name for each in failed) == ["0000.jpg", "0005.jpg"]
    assert again.pending() == ([], 0, 8)


def test_a_picture_that_vanished_is_an_error_of_its_own(tmp_path: Path, editor: Editor):
    source = folder(tmp_path / "in", 2, broken=set())
    archive = Folder(source, tmp_path / "out", None)
    (source / "even" / "0000.jpg").unlink()
    (done,) = finish(archive, editor)
    assert done.written == 1
    assert done.failed[0][1] == "No such file or directory"


def test_an_output_inside_of_the_input_is_not_edited_again(tmp_path: Path, editor: Editor):
    source = folder(tmp_path / "in", 2, broken=set())
    finish(Folder(source, source / "out", None), editor)
    assert Folder(source, source / "out", None).pending() == ([], 0, 2)


def test_workers_are_not_told_of_everything(tmp_path: Path):
    import pickle

    source = folder(tmp_path / "in", 2, broken=set())
    assert pickle.loads(pickle.dumps(Folder(source, tmp_path / "out", None))).pending() == ([], 0, 0)


def test_an_output_belongs_to_one_job(tmp_path: Path):
    archives.claim(tmp_path / "out", {"attributes": {"Smiling": 1.0}, "strength": 1.0})
    archives.claim(tmp_path / "out", {"attributes": {"Smiling": 1.0}, "strength": 1.0})
    with pytest.raises(UsageError, match=r"results of another job \(strength differ"):
        archives.claim(tmp_path / "out", {"attributes": {"Smiling": 1.0}, "strength": 2.0})


# Parquet


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Seven rows in row groups of four, two of them broken."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra ray)")
    import pyarrow.parquet as pq

    pictures = painted(7)
    pictures[2], pictures[5] = BROKEN, None
    columns = {"id": [f"row{n}" for n in range(7)], "image": pa.array(pictures, pa.binary()), "age": list(range(7))}
    path = tmp_path / "in" / "below" / "faces.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(columns), path, row_group_size=4)
    return path


def rows(directory: Path) -> list[dict]:
    import pyarrow.parquet as pq

    return [row for path in sorted(directory.rglob("*.parquet")) for row in pq.ParquetFile(path).read().to_pylist()]


def test_tables_keep_their_other_columns(tmp_path: Path, editor: Editor, table: Path, monkeypatch):
    monkeypatch.setattr(archives, "CHUNK", 3)
    archive = Tables(tmp_path / "in", tmp_path / "out", "image", None)
    assert archive.pending()[1:] == (7, 0)
    told = finish(archive, editor)
    assert sum(done.written for done in told) == 5
    assert sorted(path.name for path in (tmp_path / "out" / "below").iterdir()) == [
        "faces-00000-00000.parquet", "faces-00000-00001.parquet", "faces-00001-00000.parquet"
    ]  # fmt: skip
    edited = rows(tmp_path / "out" / "below")
    assert [(row["id"], row["age"]) for row in edited] == [(f"row{n}", n) for n in (0, 1, 3, 4, 6)]
    assert all(marking.examine(row["image"], 10**6).facet for row in edited)
    errors = rows(tmp_path / "out" / "_errors")
    assert [(row["id"], sorted(row)) for row in errors] == [(n, ["age", "error", "id"]) for n in ("row2", "row5")]
    assert archive.errors()
    assert archive.pending() == ([], 0, 7)


def test_a_stopped_table_goes_on_with_the_chunks_that_are_left(
    tmp_path: Path, editor: Editor, table: Path, monkeypatch
):
    monkeypatch.setattr(archives, "CHUNK", 3)
    archive = Tables(table, tmp_path / "out", "image", "png")
    next(iter(archive.work(editor, archive.pending()[0])))
    assert archive.pending() == ([{"file": str(table), "group": n} for n in (0, 1)], 4, 3)
    first = tmp_path / "out" / "faces-00000-00000.parquet"
    before = first.stat().st_mtime_ns
    finish(Tables(table, tmp_path / "out", "image", "png"), editor)
    assert first.stat().st_mtime_ns == before
    assert sorted(row["id"] for row in rows(tmp_path / "out")) == [f"row{n}" for n in range(7)]


def test_a_folder_with_tables_is_taken_for_tables(tmp_path: Path, table: Path):
    assert isinstance(archives.opened(tmp_path / "in", tmp_path / "out", "image", None), Tables)
    assert isinstance(archives.opened(table, tmp_path / "out", "image", None), Tables)


def test_a_column_that_holds_no_pictures_is_refused(tmp_path: Path, table: Path):
    for column in ("id", "picture"):
        with pytest.raises(UsageError, match=rf"has no column '{column}' of bytes; it has id, image, age"):
            Tables(table, tmp_path / "out", column, None)
    table.write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        Tables(table, tmp_path / "out", "image", None)
