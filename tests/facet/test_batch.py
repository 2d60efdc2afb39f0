"""Many pictures, some of which fail."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from facet import ConnectError, Picture, Pictures, RequestError, ServiceError, batch
from facet.outputs import Job

DRAWN = Pictures((Picture(b"drawn", "image/png"),), "m@1")


def jobs(folder: Path, count: int) -> list[Job]:
    return [Job(Path(f"{n}.jpg"), (folder / f"below/{n}.png",), "png") for n in range(count)]


def refusal(field: str, status: int = 422) -> RequestError:
    return RequestError(status, "no", [{"field": field, "rule": "no"}])


def test_a_broken_picture_does_not_stop_the_others(tmp_path):
    def draw(job: Job) -> Pictures:
        if job.source.name in ("1.jpg", "3.jpg"):
            raise refusal("image", 400)
        return DRAWN

    outcome = batch.run(jobs(tmp_path, 5), draw, 2, False)
    assert [job.source.name for job, _ in outcome.failed] == ["1.jpg", "3.jpg"]
    assert [job.source.name for job in outcome.written] == ["0.jpg", "2.jpg", "4.jpg"]
    assert sorted(path.name for path in (tmp_path / "below").iterdir()) == ["0.png", "2.png", "4.png"]


def test_what_is_there_is_skipped_if_requested(tmp_path):
    (first, second) = jobs(tmp_path, 2)
    first.targets[0].parent.mkdir()
    first.targets[0].write_bytes(b"old")
    outcome = batch.run([first, second], lambda _: DRAWN, 2, True)
    assert (outcome.skipped, outcome.written) == ([first], [second])
    assert first.targets[0].read_bytes() == b"old"
    batch.run([first], lambda _: DRAWN, 2, False)
    assert first.targets[0].read_bytes() == b"drawn"


def test_several_are_under_way_at_once(tmp_path):
    together = threading.Barrier(3)

    def draw(_: Job) -> Pictures:
        together.wait(20)
        return DRAWN

    assert len(batch.run(jobs(tmp_path, 3), draw, 3, False).written) == 3


@pytest.mark.parametrize("error", [refusal("attributes.Smilng"), ConnectError("refused"), refusal("model", 404)])
def test_what_would_fail_for_all_stops_at_once(tmp_path, error):
    requested = []

    def draw(job: Job) -> Pictures:
        requested.append(job)
        raise error

    with pytest.raises(type(error)):
        batch.run(jobs(tmp_path, 50), draw, 1, False)
    assert len(requested) == 1


@pytest.mark.parametrize("error", [refusal("image"), refusal("face"), ServiceError(500, "x"), RequestError(413, "x")])
def test_what_concerns_one_picture_is_not_hopeless(error):
    assert not batch.hopeless(error)


def test_a_mistake_of_our_own_is_not_hidden(tmp_path):
    with pytest.raises(ZeroDivisionError):
        batch.run(jobs(tmp_path, 2), lambda _: 1 / 0, 1, False)


def test_a_terminal_sees_progress_and_nobody_else_does(tmp_path, capsys, monkeypatch):
    batch.run(jobs(tmp_path, 2), lambda _: DRAWN, 1, False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    batch.run(jobs(tmp_path, 2), lambda _: DRAWN, 1, False)
    assert "2/2" in capsys.readouterr().err
