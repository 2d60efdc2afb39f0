"""Services in processes of their own, on the shipped bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.processes import ROOT, Instance, free_port
from tests.service import fakes

BUNDLES = ROOT / "bundles"
NAME = "celeba64"


def serving(
    port: int | None = None, bundles: Path = BUNDLES, before: Callable[[], None] | None = None, **set_: str
) -> Instance:
    """`python -m service` with variables `set_`, to be used in a `with`; `before` runs in its process first."""
    pytest.importorskip("onnxruntime")
    chosen = {"FACET_BUNDLES": str(bundles), "FACET_DEFAULT_MODEL": NAME, "FACET_DEVICE": "cpu", "FACET_MAX_BATCH": "8"}
    return Instance(fakes.environment(**chosen | set_), port=port or free_port(), before=before)


@pytest.fixture(scope="package")
def service() -> Iterator[Instance]:
    """One that tests share, so none may stop it."""
    with serving() as service:
        yield service
