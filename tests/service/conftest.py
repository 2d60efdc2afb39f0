"""A valid bundle on disk and a client of a service that runs it with a fake runtime."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from service.bundle import loader
from service.bundle.manifest import Manifest
from service.settings import PREFIX, Settings
from tests.service import fakes
from tests.service.fakes import TestClient


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def _written_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("written") / "tiny"
    fakes.write_bundle(directory)
    return directory


@pytest.fixture
def bundle_directory(_written_bundle: Path, tmp_path: Path) -> Path:
    """bundles/tiny, with real hashes of files that are no graphs. The test's own copy, which it may damage."""
    return Path(shutil.copytree(_written_bundle, tmp_path / "bundles" / "tiny"))


@pytest.fixture
def manifest(bundle_directory: Path) -> Manifest:
    return loader.read_manifest(bundle_directory)


@pytest.fixture
def settings(bundle_directory: Path) -> Settings:
    return _settings().model_copy(update={"bundles": bundle_directory.parent, "weights": bundle_directory / "none"})


@cache
def _settings() -> Settings:
    """Made once, since looking for every field in the environment takes as long as a test."""
    return Settings(
        default_model="tiny",
        max_batch=4,
        queue_images=8,
        max_count=6,
        codec_threads=2,
        max_body_bytes=200_000,
        max_image_pixels=200_000,
        sensitive_attributes=True,  # so that a test may name any of the few; what disables them has its own tests
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with fakes.serving(settings) as client:
        yield client
