"""The shipped bundle in this process, faces to send, and answers that no service has to give."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import skimage.data
from PIL import Image

from facet import Client, Retries
from service.faces.weights import RETINAFACE
from service.settings import PREFIX
from tests import painter

ROOT = Path(__file__).parents[2]
SMILING = dict.fromkeys(painter.ATTRIBUTES, False) | {"Smiling": True}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def local() -> Iterator[Client]:
    with Client.local(ROOT / "bundles", weights=ROOT / "weights") as client:
        yield client


@pytest.fixture(scope="session")
def face() -> Image.Image:
    """A painted face in the model's frame."""
    return painter.paint(SMILING, np.random.default_rng(0))


@pytest.fixture
def framed(face: Image.Image, tmp_path: Path) -> Path:
    """The same as a file."""
    path = tmp_path / "framed.png"
    face.save(path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph in which the face has to be found."""
    if not (ROOT / "weights" / RETINAFACE.file).exists():
        pytest.skip("the face finder's weights are missing; run make weights")
    path = tmp_path / "photo.jpg"
    Image.fromarray(skimage.data.astronaut()).save(path)
    return path


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that clients meant to wait; nobody waits."""
    requested: list[float] = []

    async def note(seconds: float) -> None:
        requested.append(seconds)

    monkeypatch.setattr("facet.client.time.sleep", requested.append)
    monkeypatch.setattr("facet.client.anyio.sleep", note)
    return requested


def remote(answer: Callable[[httpx.Request], httpx.Response], **options) -> Client:
    """A client of a service that `answer` pretends to be."""
    return Client("http://facet.test/below", transport=httpx.MockTransport(answer), **options)


def once(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    return remote(answer, retries=Retries(tries=1))


def pixels(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
