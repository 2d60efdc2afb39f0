"""Cores are counted as the process may use them, not as the machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service import cores


@pytest.fixture
def sixteen(monkeypatch) -> None:
    """As if this process could run on 16 cores of a machine with 64."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)


def version_2(root: Path, text: str) -> None:
    (root / "cpu.max").write_text(text)


def version_1(root: Path, quota: str, period: str) -> None:
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (root / "cpu" / "cpu.cfs_period_us").write_text(period)


@pytest.mark.usefixtures("sixteen")
def test_without_a_limit_the_cores_that_the_process_may_run_on_count(tmp_path: Path):
    assert cores.usable(tmp_path) == 16


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),
        ("20000 100000\n", 1),
        ("6400000 100000\n", 16),
        ("max 100000\n", 16),
        ("200000 0\n", 16),
        ("nonsense\n", 16),
    ],
)
def test_a_quota_counts_in_version_2(tmp_path: Path, text: str, expected: int):
    version_2(tmp_path, text)
    assert cores.usable(tmp_path) == expected


@pytest.mark.usefixtures("sixteen")
@pytest.mark.parametrize(
    ("quota", "period", "expected"), [("400000\n", "100000\n", 4), ("-1\n", "100000\n", 16), ("50000\n", "100000\n", 1)]
)
def test_a_quota_counts_in_version_1(tmp_path: Path, quota: str, period: str, expected: int):
    version_1(tmp_path, quota, period)
    assert cores.usable(tmp_path) == expected


def test_where_the_system_knows_no_affinity_all_cores_count(tmp_path: Path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert cores.usable(tmp_path) == 64
