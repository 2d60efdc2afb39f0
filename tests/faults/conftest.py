"""Services in processes of their own, on the shipped bundle."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.serving import free_port
from tests.service.fakes import PATIENCE

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "bundles"
NAME = "celeba64"


@dataclass
class Service:
    """One that runs: where, as which process, and what it writes to stderr."""

    url: str
    process: psutil.Popen
    log: Path

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def until(true: Callable[[], bool], seconds: float = 6 * PATIENCE) -> None:
    """Wait for it; a machine that is busy takes its time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


@contextmanager
def serving(
    place: Path, port: int | None = None, bundles: Path = BUNDLES, before: Callable[[], None] | None = None, **set_: str
) -> Iterator[Service]:
    """`python -m service` with variables `set_`; `before` runs in its process first. Killed afterwards, if need be."""
    pytest.importorskip("onnxruntime")
    port = port or free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FACET_")}
    chosen = {"FACET_PORT": str(port), "FACET_BUNDLES": str(bundles), "FACET_DEVICE": "cpu", "FACET_MAX_BATCH": "8"}
    log = place / f"service-{port}.log"
    with log.open("ab") as stderr:
        process = psutil.Popen(
            [sys.executable, "-m", "service"], cwd=ROOT, env=inherited | chosen | set_, stderr=stderr, preexec_fn=before
        )
    service = Service(f"http://127.0.0.1:{port}", process, log)
    try:
        until(lambda: service.ready() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield service
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that tests share, so none may stop it."""
    with serving(tmp_path_factory.mktemp("service")) as service:
        yield service
