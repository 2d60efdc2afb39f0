"""Where results go."""

from __future__ import annotations

import os

import pytest

from facet import outputs
from facet.arguments import UsageError
from facet.files import READ
from facet.outputs import plan

STILL = ("png", "jpeg", "webp")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.jpg", "in/b.PNG", "in/sub/c.gif", "in/notes.txt", "in/.hidden.jpg", "in/.dir/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def targets(*arguments, **options) -> list[str]:
    return [str(target) for job in plan(*arguments, **options) for target in job.targets]


def test_one_picture_goes_into_one_file_whose_suffix_tells_the_format(folder):
    (job,) = plan(["in/a.jpg"], "out.webp", STILL, None, None)
    assert (str(job.targets[0]), job.kind) == ("out.webp", "webp")


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "jpe", "jfif", "JFIF"])
def test_every_suffix_of_jpeg_is_one(folder, suffix):
    (job,) = plan(["in/a.jpg"], f"out.{suffix}", STILL, None, None)
    assert job.kind == "jpeg"
    (folder / f"in/e.{suffix}").touch()
    assert f"out/e.{suffix}" in targets(["in"], "out", STILL, None, None)


def test_pictures_that_are_read_and_not_written_become_others(folder):
    for name in ("e.heic", "f.AVIF", "g.tif", "h.tiff", "i.bmp", "j.psd"):
        (folder / "in/sub" / name).touch()
    found = targets(["in/sub"], "out", STILL, None, None)
    assert found == ["out/c.png", "out/e.jpg", "out/f.jpg", "out/g.png", "out/h.png", "out/i.png"]


def test_a_folder_is_mirrored_and_each_picture_keeps_its_format(folder):
    assert targets(["in"], "out", STILL, None, None) == ["out/a.jpg", "out/b.PNG", "out/sub/c.png"]
    assert targets(["in"], "out/", STILL, "webp", None) == ["out/a.webp", "out/b.webp", "out/sub/c.webp"]
    assert targets(["in"], "out/", STILL, None, "png") == ["out/a.png", "out/b.PNG", "out/sub/c.png"]


def test_one_picture_may_go_into_a_folder_and_several_must(folder):
    assert targets(["in/a.jpg"], "in/sub", STILL, None, None) == ["in/sub/a.jpg"]
    assert targets(["in/a.jpg", "in/b.PNG"], "out", STILL, None, None) == ["out/a.jpg", "out/b.PNG"]
    with pytest.raises(UsageError, match=r"-o out\.jpg: several pictures"):
        plan(["in"], "out.jpg", STILL, None, None)
    with pytest.raises(UsageError, match=r"-o in/notes\.txt: must be a folder"):
        plan(["in"], "in/notes.txt", STILL, None, None)


def test_frames_become_numbered_files(folder):
    assert targets(["in/a.jpg"], "out", STILL, None, "png", frames=2) == ["out/a-00.png", "out/a-01.png"]
    assert targets([], "out", STILL, "webp", "png", frames=2) == ["out/face-00.webp", "out/face-01.webp"]


def test_results_of_an_earlier_run_are_no_pictures_to_work_on(folder):
    (folder / "in/out").mkdir()
    (folder / "in/out/a.jpg").touch()
    assert targets(["in"], "in/out", STILL, None, None) == ["in/out/a.jpg", "in/out/b.PNG", "in/out/sub/c.png"]


@pytest.mark.parametrize(
    ("given", "out", "said"),
    [
        (["in"], "in", "would be overwritten"),
        (["in/a.jpg"], "in/a.jpg", "would be overwritten"),
        (["in", "in/a.jpg"], "out", "would both be written to out/a.jpg"),
        (["nowhere.jpg"], "out.jpg", r"nowhere\.jpg: no such file or folder$"),
        (["Smiling"], "out.jpg", "given as NAME=VALUE"),
        (["in/.dir/empty"], "out", "no such file"),
        (["in/a.jpg"], "out.gif", r"-o out\.gif: the suffix must be one of \.png, \.jpg, \.jpeg, \.webp"),
        (["in/a.jpg"], "out", "the suffix"),
    ],
)
def test_what_makes_no_sense_is_named(folder, given, out, said):
    with pytest.raises(UsageError, match=said):
        plan(given, out, STILL, None, None)


def test_an_empty_folder_is_named(folder):
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: holds no pictures"):
        plan(["empty"], "out", STILL, None, None)


def test_what_is_left_out_of_a_folder_is_named_with_the_reason(tmp_path):
    for name in ("a.png", "notes.txt", ".hidden.png", ".cache/b.png", "sub/c.JPG", "sub/d.pdf", "out/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "linked").symlink_to(tmp_path / "sub")
    os.mkfifo(tmp_path / "pipe.png")
    suffix = f"its suffix is none of {', '.join(READ)}"
    named = {
        str(path.relative_to(tmp_path)): reason for path, reason in outputs.left_out([str(tmp_path)], tmp_path / "out")
    }
    assert named == {
        "notes.txt": suffix,
        ".hidden.png": "is hidden",
        "pipe.png": "is not a regular file",
        ".cache": "is hidden",
        "sub/d.pdf": suffix,
        "linked": "is a link to a folder",
        "out": "is the output folder",
    }
    chosen = {str(place) for _, place in outputs.pictures([str(tmp_path)], tmp_path / "out")}
    assert chosen == {"a.png", "sub/c.JPG"}


def test_a_picture_that_is_named_itself_is_not_left_out(tmp_path):
    assert outputs.left_out([str(tmp_path / "a.tif"), "Smiling=1"]) == []
