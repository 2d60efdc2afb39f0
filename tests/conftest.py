"""Shared fixtures: a painted dataset, and a model trained on it once for the whole session."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import painter


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """900 painted faces in CelebA's layout, 700 of them for training."""
    return painter.write_dataset(tmp_path_factory.mktemp("painted"), train=700, validation=200)
