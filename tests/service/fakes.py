"""A tiny bundle on disk, runtimes that misbehave on command, and pictures to upload."""

from __future__ import annotations

import io
import json
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from fastapi import FastAPI
from PIL import Image
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.bundle import loader
from service.bundle.gaussian_prior import PRIOR_FILE as PRIOR_FILE
from service.bundle.gaussian_prior import GaussianPrior
from service.bundle.loader import Bundle
from service.bundle.manifest import (
    EDITOR,
    EDITOR_SAMPLES,
    LEARNED_PRIOR,
    MANIFEST,
    Attribute,
    FaceFrame,
    FileEntry,
    Manifest,
    ManifestOfSchema1,
    Parity,
    SamplingPrior,
    Training,
    graph_interfaces,
    learned_prior_interface,
)
from service.inference import golden
from service.inference.model import Model
from service.inference.onnx import Arrays
from service.request import RequestContext
from service.settings import Settings
from service.telemetry.metrics import Metrics
from tests.fake_runtime import FakeRuntime

with warnings.catch_warnings():  # Starlette would rather have httpx2; httpx is what the project installs
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

IMAGE_SIZE, LATENT_SIZE, EDITOR_SIZE = 8, 3, 12
ALIGNED = (178, 218)
ATTRIBUTES = ("Smiling", "Eyeglasses", "Black_Hair", "Blond_Hair", "Male")
LATENT_MEAN = [10.0, -2.0, 0.5]
PATIENCE = 20  # seconds until a test that hangs fails

_FILES = {
    "encoder.onnx": b"not really an encoder",
    "decoder.onnx": b"not really a decoder",
    "MODEL_CARD.md": b"# tiny\n",
    golden.FILE: b"",  # drawn below, when the rest is known
}


def write_bundle(directory: Path, schema: int = 1, editor: bool = False, prior: bool = False) -> Manifest:
    """A valid bundle named as its directory; the graphs are bytes that no runtime can load.

    With an `editor`, which takes schema 2, its frame is the middle of the aligned picture, wider than the others'. A
    learned `prior` takes schema 2 as well.
    """
    directory.mkdir(parents=True)
    interfaces = graph_interfaces(IMAGE_SIZE, LATENT_SIZE, len(ATTRIBUTES), EDITOR_SIZE if editor else None)
    gaussian, files = _prior(), dict(_FILES)
    if schema == 2:
        GaussianPrior.of(gaussian).write(directory / PRIOR_FILE)
        files[PRIOR_FILE] = (directory / PRIOR_FILE).read_bytes()
    if editor:
        files |= {EDITOR: b"not really an editor", EDITOR_SAMPLES: b""}
    if prior:
        files[LEARNED_PRIOR] = b"not really a prior"
        interfaces[LEARNED_PRIOR] = learned_prior_interface(LATENT_SIZE, len(ATTRIBUTES))
    entries = {}
    for name, data in files.items():
        (directory / name).write_bytes(data)
        inputs, outputs = interfaces.get(name, ([], []))
        digest = loader.sha256_file(directory / name)
        entries[name] = FileEntry(sha256=digest, bytes=len(data), inputs=inputs, outputs=outputs)
    frame = FaceFrame(
        image_size=IMAGE_SIZE,
        aligned_size=ALIGNED,
        crop_box=(15, 40, 163, 188),
        landmarks=[(69, 111), (108, 111), (89, 130), (73, 152), (105, 152)],
    )
    wider = {"image_size": EDITOR_SIZE, "crop_box": (0, 20, 178, 198)}
    manifest = (ManifestOfSchema1 if schema == 1 else Manifest)(
        schema_version=schema,
        name=directory.name,
        version="1.2.3",
        description="a model for tests",
        weights_licence="CC0-1.0",
        frame=frame,
        editor_frame=frame.model_copy(update=wider) if editor else None,
        latent_size=LATENT_SIZE,
        attributes=[
            Attribute(
                name=name,
                description=f"shows {name}",
                group="hair" if name.endswith("_Hair") else None,
                gain=1.0,
                sensitive=name == "Male",
            )
            for name in ATTRIBUTES
        ],
        prior=gaussian if schema == 1 else gaussian.attributes_alone,
        files=entries,
        parity={"encoder.onnx": Parity(batches=[1, 3], tolerance={"mean": 1e-3}, max_error={"mean": 1e-5})},
        training=Training(
            config={}, epochs=1, seed=0, data_sha256="0" * 64, command="python -m training", source_commit="0" * 40
        ),
        evaluation={"psnr": 20.5},
    )
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    return draw_samples(directory, manifest, FakeRuntime(manifest))


def draw_samples(directory: Path, manifest: Manifest, runtime: FakeRuntime) -> Manifest:
    """Give a bundle the golden samples of `runtime`; returns its manifest."""
    draft = Bundle(directory, manifest)

    def learned(noise: np.ndarray, attributes: np.ndarray) -> np.ndarray:
        return runtime.prior({"noise": noise, "attributes": attributes})["latent"]

    sheets = {
        golden.FILE: lambda: golden.draw(
            draft,
            lambda z, a: runtime.decoder({"latent": z, "attributes": a})["image"],
            learned if LEARNED_PRIOR in manifest.files else None,
        )
    }
    if manifest.editor_frame is not None:
        sheets[EDITOR_SAMPLES] = lambda: golden.draw_edits(
            draft, lambda image, change: runtime.editor({"image": image, "change": change})
        )
    entries = {}
    for name, drawn in sheets.items():
        path = directory / name
        path.write_bytes(encoded(Image.fromarray(drawn()), "PNG"))
        entries[name] = FileEntry(sha256=loader.sha256_file(path), bytes=path.stat().st_size)
    manifest = manifest.model_copy(update={"files": manifest.files | entries})
    (directory / MANIFEST).write_text(manifest.model_dump_json(indent=2), encoding="utf-8")
    return manifest


def _prior() -> SamplingPrior:
    """Men of this prior wear glasses, women do not; nobody prefers a hair colour."""
    covariance = np.eye(len(ATTRIBUTES))
    glasses, male = ATTRIBUTES.index("Eyeglasses"), ATTRIBUTES.index("Male")
    covariance[glasses, male] = covariance[male, glasses] = 0.9
    return SamplingPrior(
        latent_mean=LATENT_MEAN,
        latent_weights=[[0.0] * len(ATTRIBUTES)] * len(LATENT_MEAN),
        latent_cholesky=[[2.0], [0.5, 1.0], [0.0, 0.25, 1.5]],
        attribute_mean=[0.0] * len(ATTRIBUTES),
        attribute_covariance=covariance.tolist(),
    )


def rewrite_manifest(directory: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Apply `change` to the manifest's JSON, in place."""
    path = directory / MANIFEST
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def raise_schema(directory: Path) -> None:
    """Make a bundle of schema 1 one of schema 2, in place."""
    loaded = loader.load(directory)
    loaded.prior.write(directory / PRIOR_FILE)
    path = directory / PRIOR_FILE
    entry = FileEntry(sha256=loader.sha256_file(path), bytes=path.stat().st_size)

    def change(values: dict[str, Any]) -> None:
        values["schema_version"] = 2
        values["prior"] = loaded.manifest.prior.attributes_alone.model_dump()
        values["files"][PRIOR_FILE] = entry.model_dump()

    rewrite_manifest(directory, change)


class HeldRuntime(FakeRuntime):
    """Between `hold` and `release` a decoder batch stays where it is; `entered` says that one has arrived."""

    def __init__(self, manifest: Manifest) -> None:
        super().__init__(manifest, workers=1)
        self.entered, self._gate = threading.Event(), threading.Event()
        self._gate.set()

    def hold(self) -> None:
        self.entered.clear()
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    def decoder(self, inputs: Arrays) -> Arrays:
        self.entered.set()
        assert self._gate.wait(PATIENCE)
        return super().decoder(inputs)


class FailingRuntime(FakeRuntime):
    """Raises `error`, once it is set, in the decoder."""

    error: Exception | None = None

    def decoder(self, inputs: Arrays) -> Arrays:
        if self.error is not None:
            raise self.error
        return super().decoder(inputs)


@contextmanager
def serving(settings: Settings, runtime: Callable[[Manifest], FakeRuntime] = FakeRuntime) -> Iterator[TestClient]:
    """A client of an application that has started."""
    with TestClient(application(settings, runtime)) as client:
        yield client


def application(settings: Settings, runtime: Callable[[Manifest], FakeRuntime] = FakeRuntime):
    return create_app(
        settings, runtime_factory=lambda bundle, _: runtime(bundle.manifest), registry=CollectorRegistry()
    )


@contextmanager
def listening(app: FastAPI, **options: Any) -> Iterator[str]:
    """Host and port of the application behind the server that it ships with, in a thread; it takes `options`."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    try:
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process, with no settings but `variables`."""
    return {name: value for name, value in os.environ.items() if not name.startswith("FACET_")} | variables


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def call(metrics: Metrics) -> RequestContext:
    """A request that has just begun and has time enough."""
    return RequestContext("id", metrics, timeout=PATIENCE)


def model_of(client: TestClient) -> Model:
    return client.app.state.service.models.get(None)


def sample(client: TestClient, name: str, **labels: str) -> float:
    """A metric's value, 0 where it was never touched."""
    return client.app.state.service.metrics.registry.get_sample_value(name, labels) or 0.0


def grey(level: int, size: tuple[int, int] = ALIGNED) -> bytes:
    """A PNG of one level of grey, width by height."""
    return encoded(Image.new("RGB", size, (level, level, level)), "PNG")


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    """uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an error that keeps every promise made to clients."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    assert ".py" not in response.text
    for error in body.get("errors", []):
        assert error["field"]
        assert error["rule"]
    return body


def fields(body: dict[str, Any]) -> list[str]:
    return [error["field"] for error in body["errors"]]
