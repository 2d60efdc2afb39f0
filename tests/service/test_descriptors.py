"""Limits of descriptors, in processes of their own, since nobody gets back what they gave up."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource")


@pytest.mark.parametrize(
    ("soft", "hard", "enough", "after"),
    [(100, 1000, 65_536, 1000), (100, 100, 65_536, 100), (100, 1000, 500, 500), (700, 1000, 500, 700)],
)
def test_the_process_takes_as_many_as_it_may(soft: int, hard: int, enough: int, after: int):
    script = f"""
import resource
from service import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
descriptors._ENOUGH = {enough}
descriptors.raise_limit()
print(descriptors.limit())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) == after
