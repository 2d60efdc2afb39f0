"""Painted faces to edit, with the shipped bundle, and one small Ray cluster for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facet_ray.editor import Edit, Editor
from service.settings import PREFIX, Settings
from tests import painter

ROOT = Path(__file__).parents[2]
BROKEN = b"\xff\xd8\xff not really a JPEG"
SMILE = Edit({"Smiling": 1.0}, framed=True)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.upper().startswith(PREFIX)}
    yield
    os.environ.update(kept)


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(bundles=ROOT / "bundles", weights=ROOT / "none", workers=1, max_batch=8)


@pytest.fixture(scope="session")
def editor(settings: Settings) -> Iterator[Editor]:
    editor = Editor(settings, SMILE)
    yield editor
    editor.close()


def painted(count: int) -> list[bytes]:
    """Framed faces as JPEG, all different."""
    import io

    rng, pictures = np.random.default_rng(count), []
    for _ in range(count):
        buffer = io.BytesIO()
        painter.paint(painter.random_attributes(rng), rng).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    return pictures


def folder(directory: Path, count: int, broken: set[int]) -> Path:
    """`count` pictures in two folders, those of `broken` damaged."""
    for number, data in enumerate(painted(count)):
        path = directory / ("even", "odd")[number % 2] / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(BROKEN if number in broken else data)
    return directory


@pytest.fixture(scope="session")
def cluster() -> Iterator[Any]:
    """A local Ray cluster."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    kept = os.environ.get("PYTHONPATH")
    # Workers inherit them. On a busy machine a node takes longer to start than the usual 30 s, and Serve's proxy longer
    # to be ready than the usual 3 times 5 s, after which it is killed while its caller waits for it. Its health checks,
    # which kill it likewise, get as long.
    variables = {
        "PYTHONPATH": str(ROOT),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    }
    os.environ |= variables
    try:
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            object_store_memory=100_000_000,
            log_to_driver=False,
            logging_level="ERROR",
        )
        yield ray
    finally:
        ray.shutdown()
        os.environ.pop("PYTHONPATH")
        if kept is not None:
            os.environ["PYTHONPATH"] = kept
