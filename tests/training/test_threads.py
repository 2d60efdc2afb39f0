import os

import pytest
import torch

from service import system
from training import threads


@pytest.fixture(autouse=True)
def _threads_stay():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def stat(*idle: int) -> str:
    """/proc/stat after each core was idle for so many of 1000 ticks; the last two numbers are guests' and count not."""
    lines = ["cpu  1 2 3 4 5 6 7 8 9 10"]
    lines += [f"cpu{core} {1000 - ticks} 0 0 {ticks} 0 0 0 0 77 0" for core, ticks in enumerate(idle)]
    return "\n".join([*lines, "intr 1 2 3"])


def test_shares_are_those_of_the_cores_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 2})
    zero = stat(0, 0, 0).replace("1000", "0")
    assert threads.shares(zero, stat(1000, 0, 250)) == [0.0, 0.75]


@pytest.mark.parametrize(
    ("busy", "free"),
    [([0.0, 0.0], 2), ([0.1, 0.2], 2), ([1.0, 0.1], 1), ([0.6, 0.6], 1), ([1.0, 1.0], 1), ([0.9] * 8, 1), (None, 4)],
)
def test_free_cores(busy, free):
    assert threads.free_cores(busy, 4 if busy is None else len(busy)) == free


def test_threads_are_as_many_as_cores_are_free_and_it_says_so(monkeypatch, capsys):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(system, "available_cores", lambda: 4)
    monkeypatch.setattr(threads, "_busy", lambda: [1.0, 0.0, 0.0, 0.9])
    assert threads.choose(None) == torch.get_num_threads() == 2
    assert capsys.readouterr().err == (
        "computing with 2 threads (2 of 4 cores are free; --threads sets another number)\n"
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert threads.choose(None) == 1


def test_who_asks_gets_what_was_requested(monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.choose(None) == torch.get_num_threads() == 3
    assert threads.choose(1) == torch.get_num_threads() == 1
    assert "1 thread (--threads)" in capsys.readouterr().err
