"""Threads are made for the cores that there are, not for those of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import cores

AFFINE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def test_without_a_control_group_the_affinity_counts(tmp_path: Path):
    assert cores.available(tmp_path) == AFFINE


@pytest.mark.parametrize(("text", "expected"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", AFFINE)])
def test_the_quota_of_version_2(tmp_path: Path, text: str, expected: int):
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert cores.available(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [(25000, 1), (-1, AFFINE), (10**9, AFFINE)])
def test_the_quota_of_version_1(tmp_path: Path, quota: int, expected: int):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert cores.available(tmp_path) == expected


@pytest.mark.parametrize("text", ["", "100000", "a b", "100000 0"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str):
    (tmp_path / "cpu.max").write_text(text)
    assert cores.available(tmp_path) == AFFINE


@pytest.mark.parametrize(("quota", "expected"), [(150_000, 2), (200_000, 2), (250_000, 3)])
def test_a_part_of_a_core_counts_as_one(tmp_path: Path, quota: int, expected: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    assert cores.available(tmp_path) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes to cores")
def test_a_pinned_process_has_one_core(tmp_path: Path):
    code = (
        "import os, pathlib; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        f"from service import cores; print(cores.available(pathlib.Path({str(tmp_path)!r})))"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"
