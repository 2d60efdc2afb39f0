"""facet-batch on a real cluster: stopped hard and started again, every picture has one output or one error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from facet_ray import archives, batch
from service.provenance import marking
from service.settings import Settings
from tests.facet_ray.conftest import ROOT, SMILE, folder, painted

PATIENCE = 120  # seconds until a test that hangs fails
COUNT, BROKEN_ONES = 300, {0, 77, 154, 231, 299}


def command(source: Path, output: Path, *options: str) -> list[str]:
    given = ["--input", str(source), "--output", str(output), "--set", "Smiling=1", "--framed"]
    return [*given, "--bundles", str(ROOT / "bundles"), "--weights", str(ROOT / "none"), *options]


def pictures(output: Path) -> dict[Path, int]:
    """What is written, and when."""
    return {path: path.stat().st_mtime_ns for path in output.rglob("[!.]*.jpg")}


def test_a_job_that_was_killed_goes_on_and_gives_each_picture_one_output_or_one_error(cluster: Any, tmp_path: Path):
    source, output = folder(tmp_path / "in", COUNT, BROKEN_ONES), tmp_path / "out"
    address = cluster.get_runtime_context().gcs_address
    words = [sys.executable, "-m", "facet_ray.batch", *command(source, output), "--address", address]
    options = {"cwd": ROOT, "env": os.environ, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*words, "--workers", "2", "--batch", "4"], start_new_session=True, **options) as first:
        deadline = time.monotonic() + PATIENCE
        while len(pictures(output)) < 20:
            assert first.poll() is None, first.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(first.pid, signal.SIGKILL)
    before = pictures(output)
    assert 20 <= len(before) < COUNT - len(BROKEN_ONES)
    second = subprocess.run([*words, "--workers", "2"], timeout=PATIENCE, check=False, **options)
    assert second.returncode == 1, second.stderr  # some pictures have no output
    after = pictures(output)
    names = {str(path.relative_to(output)) for path in after}
    broken = {str(source / ("even", "odd")[n % 2] / f"{n:04d}.jpg") for n in BROKEN_ONES}
    assert names == {str(path.relative_to(source)) for path in source.rglob("*.jpg") if str(path) not in broken}
    # Workers may outlive their driver for a moment, and what they wrote then was there before the second began.
    assert {path: after[path] for path in before} == before
    told = [json.loads(line) for line in (output / "_errors.jsonl").read_text().splitlines()]
    assert sorted(each["source"] for each in told) == sorted(broken)
    assert all("truncated or corrupt" in each["error"] for each in told)
    sample = next(iter(after)).read_bytes()
    assert marking.examine(sample, 10**6).facet
    third = subprocess.run(words, timeout=PATIENCE, check=False, **options)
    assert third.returncode == 1
    assert f"{COUNT} done before: 0 written, 0 failed" in third.stderr
    assert pictures(output) == after


def test_tables_go_through_the_cluster(cluster: Any, tmp_path: Path, settings: Settings):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "faces.parquet"
    pq.write_table(pa.table({"id": list(range(30)), "image": painted(30)}), path, row_group_size=10)
    archive = archives.Tables(path, tmp_path / "out", "image", None)
    told = list(batch.run(archive, settings, SMILE, workers=2, batch=8))
    assert sum(done.written for done in told) == 30
    edited = [row for part in (tmp_path / "out").glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    assert sorted(row["id"] for row in edited) == list(range(30))
    assert list(batch.run(archive, settings, SMILE, workers=2, batch=8)) == []


def test_a_worker_that_dies_is_replaced(cluster: Any, tmp_path: Path, settings: Settings):
    source = folder(tmp_path / "in", 120, broken=set())
    archive = archives.Folder(source, tmp_path / "out", None)
    told = batch.run(archive, settings, SMILE, workers=2, batch=4)
    written = next(told).written
    (victim, *_) = [
        each for each in _actors(cluster) if each["state"] == "ALIVE" and each["class_name"].startswith("MapWorker")
    ]
    os.kill(victim["pid"], signal.SIGKILL)
    written += sum(done.written for done in told)
    assert len(pictures(tmp_path / "out")) == 120
    assert written >= 120


def _actors(cluster: Any) -> list[dict[str, Any]]:
    from ray._private.state import actors

    return [{"state": a["State"], "class_name": a["ActorClassName"], "pid": a["Pid"]} for a in actors().values()]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--set", "Smilng=1"], "attributes.Smilng: is not an attribute of this model; did you mean Smiling?"),
        (["--set", "Smile"], "--set Smile: must be NAME=VALUE"),
        (["--set", "Smiling=x"], "must be a number"),
        (["--set", "Young=5"], "attributes.Young"),
        (["--model", "none"], "manifest.json: is missing"),
        (["--input", "/none"], "--input /none: no such file or folder"),
        (["--strength", "nan"], "--strength nan"),
    ],
)
def test_a_mistake_is_one_line_before_anything_starts(tmp_path: Path, capsys, options: list[str], words: str):
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    source = folder(tmp_path / "in", 1, broken=set())
    given = command(source, tmp_path / "out", *options)
    if "Smiling=x" in options:
        given.remove("Smiling=1"), given.remove("--set")
    assert batch.main(given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("facet-batch: error: ")
    assert words in line
    assert not (tmp_path / "out").exists()


def test_the_results_of_another_job_are_not_mixed_in(tmp_path: Path, capsys):
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    source = folder(tmp_path / "in", 1, broken=set())
    archives.claim(tmp_path / "out", {"input": "elsewhere"})
    assert batch.main(command(source, tmp_path / "out")) == 2
    assert "contains the results of another job" in capsys.readouterr().err


def test_without_ray_the_extra_is_named(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert batch.main(command(tmp_path, tmp_path / "out")) == 2
    assert "pip install '.[ray,cpu]'" in capsys.readouterr().err
