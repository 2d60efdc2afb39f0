import threading

import numpy as np
import pytest

from training import distributed
from training.data.dataset import DatasetError, FaceIndex, Faces
from training.data.source import BatchLoader, CachedFaces


def cached(count=20, times=1):
    labels = np.ones((count, 2), dtype=np.int8)
    labels[: count // 4, 1] = -1
    names = [f"{n}.jpg" for n in range(count)]
    index = FaceIndex(None, names, ["A", "B"], labels, np.zeros(count, dtype=np.int32))
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), dtype=np.uint8)
    return CachedFaces(index, pixels, times)


def shown(faces):
    return faces.pixels[:, 0, 0, 0].tolist()


def test_an_epoch_shows_every_picture_once_and_leaves_out_the_rest():
    loader = BatchLoader(cached(), seed=3, batch_size=6)
    assert loader.steps_per_epoch == 3
    epochs = [[row for step in range(3) for row in shown(loader.take(3 * epoch + step))] for epoch in range(2)]
    for rows in epochs:
        assert len(set(rows)) == 18
    assert epochs[0] != epochs[1]


def test_frequencies_are_the_shares_that_have_it():
    assert cached().frequencies().tolist() == [1.0, 0.75]


def test_an_epoch_shows_pictures_as_often_as_they_are_repeated():
    times = np.array([3] * 5 + [1] * 15)
    source = cached(times=times)
    assert len(source) == 30
    faces = source.read(source.order(seed=1, epoch=0, start=0, stop=30))
    assert np.bincount(shown(faces)).tolist() == times.tolist()
    assert (faces.labels[:, 1] == np.where(np.array(shown(faces)) < 5, -1, 1)).all()
    assert source.frequencies().tolist() == [1.0, 0.5]  # as they are shown


def test_processes_take_parts_that_make_up_the_batch(monkeypatch):
    whole = [shown(BatchLoader(cached(), 3, 6).take(step)) for step in range(4)]
    monkeypatch.setattr(distributed, "world", lambda: 3)
    parts = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        loader = BatchLoader(cached(), 3, 6)
        parts.append([shown(loader.take(step)) for step in range(4)])
    assert [a + b + c for a, b, c in zip(*parts, strict=True)] == whole


def test_any_step_can_be_taken_next():
    loader = BatchLoader(cached(), 3, 6)
    in_order = [shown(loader.take(step)) for step in range(6)]
    assert [shown(loader.take(step)) for step in (4, 5, 0, 3)] == [in_order[step] for step in (4, 5, 0, 3)]


def test_the_next_step_is_read_meanwhile():
    source, read = cached(), threading.Semaphore(0)
    plain = source.read

    def counted(rows):
        read.release()
        return plain(rows)

    source.read = counted
    loader = BatchLoader(source, 3, 6)
    loader.take(0)
    assert read.acquire(timeout=10)  # step 0
    assert read.acquire(timeout=10)  # step 1, which nobody has asked for yet
    assert not read.acquire(timeout=0.05)
    loader.take(1)
    assert read.acquire(timeout=10)  # step 2: step 1 was not read again


def test_what_cannot_be_read_is_said_by_the_step_that_needs_it():
    source = cached()

    def broken(rows: np.ndarray) -> Faces:
        raise DatasetError("train-000001.tar: damaged")

    loader = BatchLoader(source, 3, 6)
    loader.take(0)
    source.read = broken
    with pytest.raises(DatasetError, match="damaged"):
        loader.take(9)
