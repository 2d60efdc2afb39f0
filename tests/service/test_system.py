"""Threads are made for the cores that there are. Limits of descriptors are set in processes of their own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from service import system

AFFINE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def test_without_a_control_group_the_affinity_counts(tmp_path: Path):
    assert system.available_cores(tmp_path) == AFFINE


@pytest.mark.parametrize(("text", "expected"), [("50000 100000", 1), ("100000 100000", 1), ("max 100000", AFFINE)])
def test_the_quota_of_version_2(tmp_path: Path, text: str, expected: int):
    (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert system.available_cores(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [(25000, 1), (-1, AFFINE), (10**9, AFFINE)])
def test_the_quota_of_version_1(tmp_path: Path, quota: int, expected: int):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert system.available_cores(tmp_path) == expected


@pytest.mark.parametrize("text", ["", "100000", "a b", "100000 0"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str):
    (tmp_path / "cpu.max").write_text(text)
    assert system.available_cores(tmp_path) == AFFINE


@pytest.mark.parametrize(("quota", "expected"), [(150_000, 2), (200_000, 2), (250_000, 3)])
def test_a_part_of_a_core_counts_as_one(tmp_path: Path, quota: int, expected: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    assert system.available_cores(tmp_path) == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes to cores")
def test_a_pinned_process_has_one_core(tmp_path: Path):
    code = (
        "import os, pathlib; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        f"from service import system; print(system.available_cores(pathlib.Path({str(tmp_path)!r})))"
    )
    root = Path(__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("soft", "hard", "enough", "after"),
    [(100, 1000, 65_536, 1000), (100, 100, 65_536, 100), (100, 1000, 500, 500), (700, 1000, 500, 700)],
)
def test_the_process_takes_as_many_as_it_may(soft: int, hard: int, enough: int, after: int):
    pytest.importorskip("resource")
    script = f"""
import resource
from service import system
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
system._MAX_DESCRIPTORS = {enough}
system.raise_descriptor_limit()
print(system.descriptor_limit())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == after


def test_a_file_is_replaced_as_a_whole_and_keeps_its_permissions(tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with system.atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", [[], ["file"]])
def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, before: list[str]):
    for name in before:
        (tmp_path / name).write_bytes(b"old")

    def fails() -> None:
        with system.atomic_write(tmp_path / "file") as file:
            file.write(b"new")
            raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        fails()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"old") for name in before]


_HELD = """
import re
from service import system

def held():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1000
"""
_FREE_PICTURES = """
from PIL import Image

if {release}:
    system.release_large_blocks()
Image.new("RGB", (4000, 4000), "red")  # its blocks have 16 MB
before = held()
pictures = [Image.new("RGB", (4000, 4000), "red") for _ in range(4)]
kept = Image.new("L", (3000, 3000), 1)  # between them and the end of the heap
del pictures
print(held() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is measured with procfs")
def test_the_memory_of_pictures_goes_back_to_the_system():
    kept = [
        int(subprocess.check_output([sys.executable, "-c", _HELD + _FREE_PICTURES.format(release=release)], text=True))
        for release in (False, True)
    ]
    assert kept[1] < 40  # of 256 MB
    assert kept[1] <= kept[0]


_FREE_SMALL_BLOCKS = """
import numpy as np

before = held()
blocks = [np.ones(8000) for _ in range(3000)]  # 192 MB, in blocks that a heap has
kept = np.ones(8000)  # between them and the end of the heap
del blocks
freed = held()
system.trim_heaps()
print(freed - before, held() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other heaps")
def test_the_free_pages_of_a_heap_go_back_to_the_system():
    output = subprocess.check_output([sys.executable, "-c", _HELD + _FREE_SMALL_BLOCKS], text=True)
    freed, trimmed = map(int, output.split())
    assert trimmed < 20 < 150 < freed


def test_another_c_library_is_none_to_set(monkeypatch: pytest.MonkeyPatch):
    class Library:
        def __init__(self, _: None) -> None:
            pass

    monkeypatch.setattr("ctypes.CDLL", Library)
    system.release_large_blocks()
    system.trim_heaps()
