import errno
import fcntl
import multiprocessing
import os
import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from training.data import cache

SHAPE = (3, 4, 5)


def count_up(array):
    array[:] = np.arange(60, dtype=np.uint8).reshape(SHAPE)


def never(_array):
    raise AssertionError("filled a second time")


def test_an_array_is_filled_once_and_kept(tmp_path):
    first = cache.kept(tmp_path / "deep" / "cache", "name", SHAPE, count_up)
    again = cache.kept(tmp_path / "deep" / "cache", "name", SHAPE, never)
    assert first.tolist() == again.tolist() == np.arange(60).reshape(SHAPE).tolist()
    assert not again.flags.writeable
    assert os.listdir(tmp_path / "deep" / "cache") == ["name.npy"]


def test_a_failure_leaves_no_file(tmp_path):
    with pytest.raises(AssertionError):
        cache.kept(tmp_path, "name", SHAPE, never)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_removed_and_what_is_in_use_is_not(tmp_path):
    for name in ("name.part", "dead.part", "used.part"):
        (tmp_path / name).write_bytes(bytes(1000))
    with (tmp_path / "used.part").open() as used:
        fcntl.flock(used, fcntl.LOCK_EX)
        cache.kept(tmp_path, "name", SHAPE, count_up)
    assert sorted(os.listdir(tmp_path)) == ["name.npy", "used.part"]


def fill_when_told(directory, started, go, result):
    def fill(array):
        started.set()
        go.wait(60)
        count_up(array)

    cache.kept(directory, "name", SHAPE, fill)
    result.put("filled" if started.is_set() else "waited")


def wait_for_the_other(directory, result):
    cache.kept(directory, "name", SHAPE, never)
    result.put("waited")


def test_a_second_process_waits_for_the_first(tmp_path):
    context = multiprocessing.get_context("fork")
    started, go, result = context.Event(), context.Event(), context.Queue()
    first = context.Process(target=fill_when_told, args=(tmp_path, started, go, result))
    first.start()
    assert started.wait(60)
    second = context.Process(target=wait_for_the_other, args=(tmp_path, result))
    second.start()
    time.sleep(0.2)  # long enough, as a rule, to come to the lock; the assertions hold without it as well
    go.set()
    assert {result.get(timeout=60), result.get(timeout=60)} == {"filled", "waited"}
    for process in (first, second):
        process.join(60)
        assert process.exitcode == 0
    assert os.listdir(tmp_path) == ["name.npy"]


def test_a_full_disk_is_found_before_anything_is_written(tmp_path, monkeypatch):
    def full(_file, _start, _size):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(cache.CacheError, match=r"name\.npy: No space left on device; 0\.0 MB are to be kept there"):
        cache.kept(tmp_path, "name", SHAPE, never)
    assert os.listdir(tmp_path) == []


def test_all_blocks_are_taken_before_the_array_is_filled(tmp_path):
    taken = []
    shape = (64, 1024, 16)

    def fill(array):
        (part,) = tmp_path.glob("*.part")
        taken.append(part.stat().st_blocks * 512)

    cache.kept(tmp_path, "name", shape, fill)
    assert taken[0] >= np.prod(shape)


def test_a_limit_on_files_is_one_line_and_no_signal(tmp_path):
    """As a full disk is; the process lives on."""
    code = (
        "import sys; from training.data import cache\n"
        "try: cache.kept(sys.argv[1], 'name', (1000, 1000), lambda array: array.fill(1))\n"
        "except cache.CacheError as exc: print(exc)"
    )

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], preexec_fn=limit, capture_output=True, text=True, check=True
    )
    assert "name.npy: File too large; 1.0 MB are to be kept there" in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(cache.CacheError, match=r"file/cache/name\.npy: Not a directory"):
        cache.kept(tmp_path / "file" / "cache", "name", SHAPE, never)
