"""Where commands write, and what is left where they fail."""

import errno
import os

import pytest

from tests import painter
from training import checkpoint, files, judge
from training.data import align
from training.data.dataset import DatasetError
from training.evaluation import report as reports


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_names_the_directory_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*deep/er'"),
        files.directory(tmp_path / "deep" / "er"),
    ):
        full()
    assert os.listdir(tmp_path) == []


def test_a_report_for_which_there_is_no_room_leaves_the_old_one(tmp_path, monkeypatch):
    files.write_text(tmp_path / "evaluation.json", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*deep/evaluation\.json'"):
        reports.save({"mean": 1}, tmp_path / "deep", "| mean |")
    with pytest.raises(OSError, match=r"No space left on device: '.*evaluation\.json'"):
        reports.save({"mean": 1}, tmp_path, "| mean |")
    assert os.listdir(tmp_path) == ["evaluation.json"]
    assert (tmp_path / "evaluation.json").read_text() == "old"


def test_what_was_there_before_stays(tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(RuntimeError), files.directory(tmp_path / "old" / "new"):
        raise RuntimeError
    assert os.listdir(tmp_path) == ["old"]

    def fail():
        with files.directory(tmp_path / "more"):
            (tmp_path / "more" / "file").write_text("somebody else's")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert sorted(os.listdir(tmp_path)) == ["more", "old"]


def test_a_directory_appears_whole_or_not_at_all(tmp_path):
    def fail():
        with files.appearing(tmp_path / "a" / "out") as temporary:
            (temporary / "inner").mkdir()
            full()

    with pytest.raises(OSError, match="No space left on device"):
        fail()
    assert os.listdir(tmp_path) == []
    with files.appearing(tmp_path / "a" / "out") as temporary:
        (temporary / "file").write_text("whole")
    assert (tmp_path / "a" / "out" / "file").read_text() == "whole"
    assert os.listdir(tmp_path / "a") == ["out"]


def test_a_writable_directory_is_left_as_it_was(tmp_path):
    files.require_writable(tmp_path / "deep" / "er", "--out")
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"Not a directory: '--out .*file/run'"):
        files.require_writable(tmp_path / "file" / "run", "--out")


def test_a_judge_that_finds_no_room_leaves_no_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*judges'"):
        judge.save_judge(judge.Judge(["Bald"], 32), tmp_path / "judges" / "judge.pt", {})
    assert os.listdir(tmp_path) == []


def test_aligning_that_finds_no_room_leaves_nothing(tmp_path, monkeypatch):
    data = painter.write_dataset(tmp_path / "data", train=2, validation=1)
    monkeypatch.setattr(align, "align", full)
    with pytest.raises((OSError, DatasetError), match=r"No space left on device: '.*new'"):
        align.write(data / "img_align_celeba", tmp_path / "new" / "own", None, None)
    assert os.listdir(tmp_path) == ["data"]
