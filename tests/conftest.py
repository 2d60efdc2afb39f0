"""Shared fixtures: a painted dataset, and a model trained on it once for the whole session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import painter

TESTS = Path(__file__).parent
# Tests here wait for browsers, sockets and other processes, whose order of events a loaded machine decides. What fails
# three times is a fault; what fails once is listed as a rerun.
CONCURRENT = ("benchmarks", "deploy", "facet", "facet_ray", "faults", "service/api", "service/server", "test_readme.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(CONCURRENT):
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 painted faces in CelebA's layout, 700 of them for training."""
    return painter.write_dataset(tmp_path_factory.mktemp("painted"), train=700, validation=200)
