"""A service whose model has an editor, and requests to it.

The fake editor works within the middle third of its frame of 12 pixels: it adds a quarter of the change of Smiling,
multiplies by 1 + half the change of Eyeglasses, and moves pixels by a tenth of the frame for Black_Hair. The encoder
estimates everything as 0.25, so adding Smiling is a change of 0.75 and adds 48 levels.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.inference.onnx import Arrays
from service.settings import Settings
from tests.fake_runtime import FakeRuntime
from tests.service import fakes
from tests.service.api.helpers import PNG
from tests.service.fakes import ATTRIBUTES, TestClient, model_of

ALL_KNOWN = dict.fromkeys(ATTRIBUTES, -1.0)
CENTRE = (109, 89)  # of the editor's box, as row and column of the aligned picture
ADDED = 48  # round(255 * 0.25 * 0.75)


class Recording(FakeRuntime):
    """Remembers what the editor was given since the model was loaded."""

    def __init__(self, manifest) -> None:
        super().__init__(manifest)
        self.seen: list[Arrays] = []

    def editor(self, inputs: Arrays) -> Arrays:
        self.seen.append(inputs)
        return super().editor(inputs)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    fakes.write_bundle(tmp_path / "edited" / "tiny", schema=2, editor=True)
    return Settings(
        bundles=tmp_path / "edited",
        weights=tmp_path / "none",
        default_model="tiny",
        max_batch=4,
        queue_images=16,
        max_count=9,
        codec_threads=2,
        sensitive_attributes=True,
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with fakes.serving(settings, Recording) as client:
        model_of(client).runtime.seen.clear()
        yield client


def edit(client: TestClient, picture: bytes, headers: dict[str, str] = PNG, **params: Any) -> httpx.Response:
    form = {name: value if isinstance(value, str) else json.dumps(value) for name, value in params.items()}
    return client.post("/v1/edit", files={"image": ("photo", picture)}, data=form, headers=headers)


def sweep(client: TestClient, picture: bytes, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
    form = {"attribute": "Smiling"} | {k: v if isinstance(v, str) else json.dumps(v) for k, v in params.items()}
    return client.post("/v1/sweep", files={"image": ("photo", picture)}, data=form, headers=headers or {})


def frames(response: httpx.Response) -> list[np.ndarray]:
    assert response.status_code == 200, response.text
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        return [np.asarray(Image.open(io.BytesIO(archive.read(name)))) for name in archive.namelist()]


def batches(client: TestClient) -> dict[str, int]:
    names = ("encoder", "decoder", "editor")
    return {name: int(fakes.sample(client, "facet_batches_total", graph=name)) for name in names}


def noise(size: tuple[int, int] = fakes.ALIGNED) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 200, (size[1], size[0], 3), dtype=np.uint8)
