"""From pictures to HTTP: train on painted faces, calibrate, export, evaluate, serve, and look at the pixels.

The painter knows every attribute, and its readers judge by the colours of fixed places, so what passes here is a model
that edits, trained, exported and served by the same commands that a user types.
"""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from prometheus_client import CollectorRegistry

from export.__main__ import main as export
from service.app import create_app
from service.bundle import loader
from service.bundle.loader import Bundle
from service.bundle.manifest import BundleError
from service.imaging import codecs
from service.settings import Settings
from tests import painter
from tests.service.fakes import TestClient
from training.__main__ import main as training
from training.graphs import BundleGraphs

# Inverting one attribute of a held-out face must show, by the readers, on at least this share of faces.
EDIT_ACCURACY = 0.9
PRESET = "tests/training/tiny.toml"


@pytest.fixture(scope="session")
def bundle(painted, tmp_path_factory) -> Bundle:
    """A bundle trained, calibrated, exported and evaluated by the commands."""
    work = tmp_path_factory.mktemp("work")
    data = ["--data", str(painted), "--cache", str(work / "cache")]
    run, directory = str(work / "run"), work / "bundles" / "painted"
    judge = ["judge", "--preset", PRESET, *data, "--epochs", "4", "--batch-size", "32"]
    commands = [
        (training, ["fit", "--preset", PRESET, *data, "--workdir", run]),
        (training, [*judge, "--seed", "11", "--out", str(work / "classifier.pt")]),
        (training, [*judge, "--seed", "12", "--out", str(work / "judge.pt")]),
        (
            training,
            ["calibrate", *data, "--workdir", run, "--classifier", str(work / "classifier.pt"), "--pictures", "150"],
        ),
        (
            export,
            [
                "bundle",
                "--checkpoint",
                f"{run}/calibrated.pt",
                "--out",
                str(directory),
                "--weights-licence",
                "CC0-1.0",
                "--version",
                "1.0.0",
            ],
        ),
        (
            training,
            [
                "evaluate",
                *data,
                "--bundle",
                str(directory),
                "--judge",
                str(work / "judge.pt"),
                "--out",
                str(work / "found"),
            ],
        ),
        (
            training,
            [
                "evaluate-edits",
                *data,
                "--bundle",
                str(directory),
                "--judge",
                str(work / "judge.pt"),
                "--pictures",
                "16",
                "--networks",
                str(work / "none"),
                "--out",
                str(work / "found"),
            ],
        ),
        (export, ["attach", "--bundle", str(directory), "--evaluation", str(work / "found" / "evaluation.json")]),
        (
            training,
            [
                "figures",
                *data,
                "--bundle",
                str(directory),
                "--out",
                str(work / "figures"),
                "--faces",
                "2",
                "--beside",
                str(directory),
            ],
        ),
    ]
    for command, words in commands:
        assert command(words) == 0, words
    return loader.load(directory)


@pytest.fixture(scope="module")
def client(bundle):
    settings = Settings(
        bundles=bundle.directory.parent, default_model="painted", device="cpu", max_batch=8, sensitive_attributes=True
    )
    with TestClient(create_app(settings, registry=CollectorRegistry())) as client:
        yield client


def held_out(count):
    rng = np.random.default_rng(4242)
    for _ in range(count):
        present = painter.random_attributes(rng)
        buffer = io.BytesIO()
        painter.paint(present, rng).save(buffer, "PNG")
        yield present, buffer.getvalue()


def pixels_of(response):
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)))


def inverted(present, name):
    """What the face should show after `name` is inverted: setting a hair colour clears the other."""
    params = {**present, name: not present[name]}
    if params[name] and name.endswith("_Hair"):
        params |= {other: False for other in painter.ATTRIBUTES if other.endswith("_Hair") and other != name}
    return params


def test_edits_over_http_show_what_was_requested_and_leave_the_rest(client):
    changed, kept = [], []
    for present, picture in held_out(25):
        for name in painter.ATTRIBUTES:
            params = inverted(present, name)
            form = {"attributes": json.dumps({name: 1 if params[name] else -1}), "output": "face"}
            seen = painter.read(pixels_of(client.post("/v1/edit", files={"image": picture}, data=form)))
            changed.append(seen[name] == params[name])
            kept += [seen[other] == params[other] for other in painter.ATTRIBUTES if other != name]
    assert np.mean(changed) >= EDIT_ACCURACY
    assert np.mean(kept) >= EDIT_ACCURACY


def test_generated_faces_show_what_was_requested(client):
    agreed = []
    for seed in range(30):
        present = painter.random_attributes(np.random.default_rng(seed))
        params = {name: 1 if value else -1 for name, value in present.items()}
        response = client.post("/v1/generate", json={"attributes": params, "seed": seed})
        seen = painter.read(pixels_of(response))
        agreed += [seen[name] == present[name] for name in present]
    assert np.mean(agreed) >= EDIT_ACCURACY


def test_encode_estimates_attributes_and_its_latent_can_be_edited(client):
    present, picture = next(held_out(1))
    face = client.post("/v1/encode", content=picture, headers={"Content-Type": "image/png"}).json()["faces"][0]
    assert {name: value > 0 for name, value in face["attributes"].items()} == present
    params = {"attributes": {"Eyeglasses": -1 if present["Eyeglasses"] else 1}}
    from_latent = {"latent": face["latent"], "source_attributes": face["attributes"], **params}
    edited = pixels_of(client.post("/v1/edit", json=from_latent)).astype(int)
    form = {"attributes": json.dumps(params["attributes"]), "output": "face"}
    from_picture = pixels_of(client.post("/v1/edit", files={"image": picture}, data=form)).astype(int)
    assert np.abs(edited - from_picture).max() <= 1  # latents travel with six decimals


def test_a_seed_gives_the_same_face_whatever_the_batch_held(client):
    alone = pixels_of(client.post("/v1/generate", json={"seed": 5}))
    many = client.post("/v1/generate", json={"seed": 5, "count": 7}, headers={"Accept": "application/json"}).json()
    assert [image["width"] for image in many["images"]] == [32] * 7
    sheet = pixels_of(client.post("/v1/generate", json={"seed": 5, "count": 7}))
    # Another batch size may sum in another order, which can tip a rounding by one level.
    assert np.abs(sheet[:32, :32].astype(int) - alone.astype(int)).max() <= 1


def test_the_manifest_tells_where_the_model_comes_from(bundle):
    manifest = bundle.manifest
    assert manifest.training.epochs == 30
    assert "fit --preset tests/training/tiny.toml" in manifest.training.command
    assert manifest.evaluation["edit"]["raw"]["accuracy"]["mean"] > 0.5
    assert manifest.parity["decoder.onnx"].max_error["image"] <= 1
    assert manifest.parity["encoder.onnx"].batches == [1, 3, 64]
    card = bundle.path("MODEL_CARD.md").read_text()
    assert "edit accuracy, mean" in card
    assert "CC0-1.0" in card


def test_edits_of_photographs_are_judged_as_the_service_makes_them(bundle):
    found = json.loads((bundle.directory.parent.parent / "found" / "photographs.json").read_text())
    assert found["bundle"] == bundle.identity
    assert found["edits"]["balanced"]["mean"] > 0.6
    assert found["side_effects"]["both"]["mean"] < 0.2
    assert found["gradual"]["both"]["mean"] > 0.5
    assert found["faces"]["added"]["Smiling"] == 8
    assert "inception-v3.bin" in found["realism"]["skipped"]
    assert (bundle.directory.parent.parent / "found" / "photographs.md").read_text().startswith("96 edits")


def test_weights_are_stored_as_half_precision(bundle):
    parameters = bundle.path("encoder.onnx").stat().st_size + bundle.path("decoder.onnx").stat().st_size
    assert parameters < 1_000_000  # 1.4 MB as single precision


def test_every_figure_is_drawn(bundle):
    figures = bundle.directory.parent.parent / "figures"
    assert {path.name for path in figures.iterdir()} == {
        "differences.png",
        "edits-generated.png",
        "edits-raw.png",
        "edits-residual.png",
        "operating-points.png",
        "reconstructions.png",
        "samples.png",
        "sweep.png",
    }


def test_one_changed_byte_is_refused_by_name(bundle, tmp_path):
    copy = tmp_path / "painted"
    shutil.copytree(bundle.directory, copy)
    content = bytearray((copy / "decoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "decoder.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"decoder\.onnx: its sha256 differs"):
        loader.load(copy)


def test_the_graphs_take_any_batch_size(bundle):
    graphs = BundleGraphs(bundle)
    latent = np.random.default_rng(0).standard_normal((7, bundle.manifest.latent_size)).astype(np.float32)
    attributes = np.ones((7, 6), dtype=np.float32)
    whole = graphs.decode(latent, attributes).astype(int)
    single = np.concatenate([graphs.decode(latent[i : i + 1], attributes[:1]) for i in range(7)])
    assert np.abs(whole - single).max() <= 1


def test_training_and_serving_see_the_same_pixels(painted, bundle, tmp_path):
    """A picture through the training cache and through the service's decoder is the same array."""
    from training import config
    from training.data import dataset

    settings = config.parse(bundle.manifest.training.config)
    index = dataset.read_index(painted, settings.data.attributes, "validation")
    cached = dataset.load_pixels(index, settings.data, tmp_path)[0]
    served, _ = codecs.framed_face(codecs.decode(index.path(0).read_bytes(), 10**6), bundle.manifest.frame)
    assert np.array_equal(cached, served)
