"""A valid bundle on disk and a client of a service that runs it with a fake runtime."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import bundle
from service.bundle import Manifest
from service.settings import PREFIX, Settings
from tests.service import fakes
from tests.service.fakes import TestClient


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture
def bundle_directory(tmp_path: Path) -> Path:
    """bundles/tiny, with real hashes of files that are no graphs."""
    directory = tmp_path / "bundles" / "tiny"
    fakes.write_bundle(directory)
    return directory


@pytest.fixture
def manifest(bundle_directory: Path) -> Manifest:
    return bundle.read_manifest(bundle_directory)


@pytest.fixture
def settings(bundle_directory: Path) -> Settings:
    return Settings(
        bundles=bundle_directory.parent,
        weights=bundle_directory / "none",
        default_model="tiny",
        max_batch=4,
        queue_images=8,
        max_count=6,
        codec_threads=2,
        max_body_bytes=200_000,
        max_image_pixels=200_000,
        sensitive_attributes=True,  # so that a test may name any of the few; what withholds them has its own tests
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with fakes.serving(settings) as client:
        yield client
