"""Files appear whole or not at all."""

from __future__ import annotations

import os

import pytest

from facet import files


def test_a_file_is_replaced_and_nothing_else_remains(tmp_path):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")
    files.write(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [target]


def test_it_may_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        files.write(tmp_path / "a.png", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o640


def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        files.write(target, b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]
