import errno
import os
import resource

import pytest
import torch

from tests import painter
from training import checkpoint
from training.__main__ import main


@pytest.fixture
def small_files():
    """Files cannot grow beyond 100 kB: an error of the same kind as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, small_files):
    path = tmp_path / "last.pt"
    checkpoint.save(path, {"step": 1})
    with pytest.raises(OSError, match=r"File too large: '.*last\.pt'"):
        checkpoint.save(path, {"step": 2, "weights": torch.zeros(100_000)})
    assert os.listdir(tmp_path) == ["last.pt"]
    assert checkpoint.load(path)["step"] == 1


def test_a_full_disk_while_training_is_one_line(tmp_path, capsys, monkeypatch):
    data = painter.write_dataset(tmp_path / "data", train=32, validation=2)

    def full(path, _state):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(checkpoint, "save", full)
    words = ["fit", "--preset", "tests/training/tiny.toml", "--data", str(data), "--cache", str(tmp_path / "cache")]
    assert main([*words, "--workdir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {tmp_path}/run/last.pt: No space left on device"


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".last.pt.99999.tmp").write_bytes(bytes(100))
    (tmp_path / ".best.pt.99999.tmp").write_bytes(bytes(100))
    checkpoint.save(tmp_path / "last.pt", {"step": 1})
    assert sorted(os.listdir(tmp_path)) == [".best.pt.99999.tmp", "last.pt"]


def test_other_failures_are_not_taken_for_the_disks(tmp_path):
    with pytest.raises(Exception, match="pickle") as failure:
        checkpoint.save(tmp_path / "last.pt", {"step": lambda: None})
    assert not isinstance(failure.value, OSError)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("workdir", "reason"),
    [
        ("/proc/nope", "No such file or directory"),
        ("{data}/identity_CelebA.txt/run", "Not a directory"),
        ("{data}/identity_CelebA.txt", "File exists"),
    ],
)
def test_a_run_directory_that_cannot_be_is_refused_before_pictures_are_read(tmp_path, capsys, workdir, reason):
    data = painter.write_dataset(tmp_path / "data", train=4, validation=2)
    workdir = workdir.format(data=data)
    words = ["fit", "--preset", "tests/training/tiny.toml", "--data", str(data), "--cache", str(tmp_path / "cache")]
    assert main([*words, "--workdir", workdir]) == 2
    assert capsys.readouterr().err == f"error: --workdir {workdir}: {reason}\n"
    assert os.listdir(tmp_path) == ["data"]


def test_a_run_that_is_refused_leaves_no_directory(tmp_path):
    data = painter.write_dataset(tmp_path / "data", train=4, validation=2)
    words = ["fit", "--preset", "tests/training/tiny.toml", "--data", str(data), "--cache", str(tmp_path / "cache")]
    assert main([*words, "--workdir", str(tmp_path / "deep" / "run")]) == 2  # fewer pictures than in a batch
    assert not (tmp_path / "deep").exists()


def test_a_full_disk_in_the_cache_is_one_line_and_leaves_nothing(tmp_path, capsys, small_files):
    data = painter.write_dataset(tmp_path / "data", train=64, validation=2)
    cache = tmp_path / "cache"
    words = ["fit", "--preset", "tests/training/tiny.toml", "--data", str(data), "--cache", str(cache)]
    assert main([*words, "--workdir", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {cache}/faces-36-")
    assert line.endswith(".npy: File too large; 0.2 MB are to be kept there")
    assert os.listdir(cache) == []
