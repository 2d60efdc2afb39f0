"""A bundle is verified before anything of it is used; a refusal names the file and the broken rule."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.bundle import loader
from service.bundle.gaussian_prior import PRIOR_FILE, GaussianPrior
from service.bundle.manifest import (
    EDITOR,
    EDITOR_SAMPLES,
    LEARNED_PRIOR,
    MANIFEST,
    REQUIRED_FILES,
    BundleError,
    FileEntry,
    learned_prior_interface,
)
from tests.service import fakes


def test_a_valid_bundle_loads_with_its_identity_and_paths(bundle_directory: Path):
    loaded = loader.load(bundle_directory)
    assert loaded.identity == "tiny@1.2.3"
    assert loaded.manifest.attribute_names == list(fakes.ATTRIBUTES)
    assert loaded.path("encoder.onnx") == bundle_directory / "encoder.onnx"


def test_a_directory_may_be_given_as_text(bundle_directory: Path):
    assert loader.load(str(bundle_directory)).manifest == loader.read_manifest(bundle_directory)


def test_what_is_written_is_what_is_read(bundle_directory: Path, tmp_path: Path):
    written = fakes.write_bundle(tmp_path / "again" / "tiny")
    assert loader.read_manifest(bundle_directory) == written


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_one_changed_byte_is_refused(bundle_directory: Path, name: str):
    path = bundle_directory / name
    data = bytearray(path.read_bytes())
    data[3] ^= 1
    path.write_bytes(data)
    refused(bundle_directory, name, "sha256")


def test_a_wrong_hash_in_the_manifest_is_refused(bundle_directory: Path):
    fakes.rewrite_manifest(bundle_directory, lambda m: m["files"]["decoder.onnx"].update(sha256="ab" * 32))
    refused(bundle_directory, "decoder.onnx", "sha256")


def test_a_file_of_another_size_is_refused_with_both_sizes(bundle_directory: Path):
    path = bundle_directory / "encoder.onnx"
    listed = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"more")
    refused(bundle_directory, "encoder.onnx", f"{listed + 4} bytes", str(listed))


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_missing_file_is_refused(bundle_directory: Path, name: str):
    (bundle_directory / name).unlink()
    refused(bundle_directory, name, "missing")


def test_a_directory_in_place_of_a_file_is_refused(bundle_directory: Path):
    (bundle_directory / "encoder.onnx").unlink()
    (bundle_directory / "encoder.onnx").mkdir()
    refused(bundle_directory, "encoder.onnx")


def test_a_missing_manifest_is_refused(bundle_directory: Path):
    (bundle_directory / MANIFEST).unlink()
    refused(bundle_directory, MANIFEST, "missing")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b'{"name": }', b"[" * 200_000])
def test_a_manifest_that_is_not_json_is_refused(bundle_directory: Path, text: bytes):
    (bundle_directory / MANIFEST).write_bytes(text)
    refused(bundle_directory, MANIFEST, "JSON")


@pytest.mark.parametrize("text", ["[]", "null", "1", '"manifest"'])
def test_a_manifest_that_is_no_object_is_refused(bundle_directory: Path, text: str):
    (bundle_directory / MANIFEST).write_text(text)
    refused(bundle_directory, MANIFEST)


def test_an_unknown_key_is_refused_by_name(bundle_directory: Path):
    fakes.rewrite_manifest(bundle_directory, lambda m: m.update(colour="blue"))
    refused(bundle_directory, MANIFEST, "unknown key", "colour")


def test_an_unknown_key_deep_inside_is_refused_by_its_whole_name(bundle_directory: Path):
    fakes.rewrite_manifest(bundle_directory, lambda m: m["frame"].update(zoom=2))
    refused(bundle_directory, MANIFEST, "frame.zoom")


def test_a_newer_schema_is_refused_as_newer_even_with_unknown_keys(bundle_directory: Path):
    fakes.rewrite_manifest(bundle_directory, lambda m: m.update(schema_version=3, colour="blue"))
    refused(bundle_directory, MANIFEST, "schema_version 3", "newer")


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5])
def test_a_schema_that_never_was_is_refused(bundle_directory: Path, version: Any):
    fakes.rewrite_manifest(bundle_directory, lambda m: m.update(schema_version=version))
    refused(bundle_directory, MANIFEST, "schema_version")


@pytest.mark.parametrize(
    "key",
    [
        "schema_version", "name", "version", "weights_licence", "frame", "latent_size", "attributes", "prior",
        "files", "parity", "training", "evaluation",
    ],
)  # fmt: skip
def test_a_missing_key_is_refused_by_name(bundle_directory: Path, key: str):
    fakes.rewrite_manifest(bundle_directory, lambda m: m.pop(key))
    refused(bundle_directory, MANIFEST, key, "missing")


@pytest.mark.parametrize("name", ["../outside.txt", "inside/file.txt", "/etc/hostname", "..", ".", ""])
def test_a_file_name_with_a_path_in_it_is_refused(bundle_directory: Path, name: str):
    for place in (bundle_directory.parent / "outside.txt", bundle_directory / "inside" / "file.txt"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("here")
    entry = {"sha256": loader.sha256_file(place), "bytes": 4}
    fakes.rewrite_manifest(bundle_directory, lambda m: m["files"].update({name: entry}))
    with pytest.raises(BundleError) as caught:
        loader.load(bundle_directory)
    assert str(caught.value).startswith(f"{bundle_directory / MANIFEST}: files.{name}: ")


def test_a_refused_path_is_not_said_to_be_missing(bundle_directory: Path):
    (bundle_directory / "inside").mkdir()
    extra = bundle_directory / "inside" / "file.txt"
    extra.write_text("here")
    entry = {"sha256": loader.sha256_file(extra), "bytes": 4}
    fakes.rewrite_manifest(bundle_directory, lambda m: m["files"].update({"inside/file.txt": entry}))
    with pytest.raises(BundleError, match=r"inside/file\.txt") as caught:
        loader.load(bundle_directory)
    assert "missing" not in caught.value.rule


def _repeat_an_attribute(manifest: dict) -> None:
    manifest["attributes"][1]["name"] = manifest["attributes"][0]["name"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda m: m.update(latent_size=4), "4 dimensions"),
        (lambda m: m["prior"]["latent_mean"].pop(), "latent_mean"),
        (lambda m: m["prior"]["latent_cholesky"][2].pop(), "latent_cholesky"),
        (lambda m: m["prior"]["latent_weights"].pop(), "latent_weights"),
        (lambda m: m["prior"]["attribute_mean"].pop(), "attribute_mean"),
        (lambda m: m["prior"]["attribute_covariance"][1].pop(), "attribute_covariance"),
        (lambda m: m["attributes"].pop(), "attribute"),
        (_repeat_an_attribute, "twice"),
        (lambda m: m["attributes"][0].update(aliases=["eyeGlasses"]), "another name"),
        (lambda m: m["attributes"][0].update(aliases=["smiling"]), "another name"),
        (lambda m: [m["attributes"][i].update(opposites=["sad"]) for i in (0, 1)], "another name"),
        (lambda m: m["attributes"][0].update(aliases=["attractive"]), "never offered"),
        (lambda m: m["attributes"][0].update(aliases=[""]), "aliases"),
        (lambda m: m["files"].pop("MODEL_CARD.md"), "MODEL_CARD.md"),
        (lambda m: m["frame"].update(image_size=16), "encoder.onnx"),
        (lambda m: m["frame"].update(crop_box=[0, 0, 10, 11]), "square"),
        (lambda m: m["frame"]["landmarks"].pop(), "landmarks"),
        (lambda m: m["files"]["decoder.onnx"]["outputs"].pop(), "decoder.onnx"),
        (lambda m: m["files"]["decoder.onnx"].update(sha256="AB"), "sha256"),
        (lambda m: m.update(name="../escape"), "name"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(bundle_directory: Path, change: Callable, rule: str):
    fakes.rewrite_manifest(bundle_directory, change)
    refused(bundle_directory, MANIFEST, rule)


def test_a_file_that_is_not_listed_does_no_harm(bundle_directory: Path):
    (bundle_directory / "notes.txt").write_text("mine")
    assert "notes.txt" not in loader.load(bundle_directory).manifest.files


def test_a_bundle_that_is_not_there_is_refused(bundle_directory: Path):
    shutil.rmtree(bundle_directory)
    refused(bundle_directory, MANIFEST)


def test_a_manifest_cannot_be_changed_after_reading(bundle_directory: Path):
    manifest = loader.read_manifest(bundle_directory)
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "other"


def refused(directory: Path, *words: str) -> None:
    with pytest.raises(BundleError) as caught:
        loader.load(directory)
    message = str(caught.value)
    assert str(directory) in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_file_that_cannot_be_read_is_refused_by_name(bundle_directory: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(loader, "sha256_file", fails)
    with pytest.raises(BundleError, match=r"encoder\.onnx: cannot be read"):
        loader.load(bundle_directory)


# ---- schema 2


@pytest.fixture(params=[False, True], ids=["without-editor", "with-editor"])
def newer(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A bundle of schema 2."""
    directory = tmp_path / "newer" / "tiny"
    fakes.write_bundle(directory, schema=2, editor=request.param)
    return directory


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    """One with an editor."""
    directory = tmp_path / "edited" / "tiny"
    fakes.write_bundle(directory, schema=2, editor=True)
    return directory


def reseal(directory: Path, name: str, data: bytes) -> None:
    """Replace a file and what the manifest says of it."""
    (directory / name).write_bytes(data)
    entry = {"sha256": loader.sha256_file(directory / name), "bytes": len(data)}
    fakes.rewrite_manifest(directory, lambda m: m["files"][name].update(entry))


def arrays(**changes: Any) -> bytes:
    """The file of the tiny bundle's prior, with some arrays changed; None leaves one out."""
    prior = GaussianPrior.of(fakes._prior())
    named = {name: getattr(prior, name) for name in ("latent_mean", "latent_weights", "latent_cholesky")} | changes
    buffer = io.BytesIO()
    np.savez(buffer, **{name: array for name, array in named.items() if array is not None})
    return buffer.getvalue()


def one_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3, np.float32))
    return buffer.getvalue()


def test_a_bundle_of_schema_2_has_the_same_prior(newer: Path, bundle_directory: Path):
    one, other = loader.load(bundle_directory), loader.load(newer)
    assert (one.manifest.schema_version, other.manifest.schema_version) == (1, 2)
    for name in vars(one.prior):
        np.testing.assert_array_equal(getattr(one.prior, name), getattr(other.prior, name))
    assert "latent_cholesky" not in (newer / MANIFEST).read_text()


def test_equal_priors_are_equal_files(newer: Path, tmp_path: Path):
    GaussianPrior.of(fakes._prior()).write(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (newer / PRIOR_FILE).read_bytes()


def test_the_graphs_of_a_bundle_are_those_that_it_lists(edited: Path, bundle_directory: Path):
    assert loader.read_manifest(bundle_directory).graph_kinds == ("encoder", "decoder")
    manifest = loader.read_manifest(edited)
    assert manifest.graph_kinds == ("encoder", "decoder", "editor")
    assert manifest.editor_frame.image_size == fakes.EDITOR_SIZE
    assert manifest.editor_frame.landmarks == manifest.frame.landmarks


@pytest.mark.parametrize("name", [PRIOR_FILE, EDITOR, EDITOR_SAMPLES])
def test_a_file_of_schema_2_that_is_missing_or_changed_is_refused(edited: Path, name: str):
    data = (edited / name).read_bytes()
    (edited / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused(edited, name, "sha256")
    (edited / name).unlink()
    refused(edited, name, "missing")


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"no arrays", "npz"),
        (b"", "npz"),
        (arrays()[:200], "npz"),
        (one_array(), "npz"),
        (arrays(latent_mean=np.array([{}], dtype=object)), "objects"),
        (arrays(latent_mean=None), "latent_mean"),
        (arrays(more=np.zeros(1)), "more"),
        (arrays(latent_mean=np.zeros(4, np.float32)), "latent_mean is float32[4]"),
        (arrays(latent_weights=np.zeros((3, 5))), "latent_weights is float64[3, 5]"),
        (arrays(latent_cholesky=np.ones((3, 3), np.float32)), "lower triangle"),
        (arrays(latent_cholesky=np.full((3, 3), np.nan, np.float32)), "finite"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(edited: Path, data: bytes, rule: str):
    reseal(edited, PRIOR_FILE, data)
    refused(edited, PRIOR_FILE, rule)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda m: m.update(editor_frame=None), "editor_frame"),
        (lambda m: m["files"].pop("editor.onnx"), "editor.onnx"),
        (lambda m: m["files"].pop("editor_samples.png"), "editor_samples.png"),
        (lambda m: m["files"].pop("gaussian_prior.npz"), "gaussian_prior.npz"),
        (lambda m: m["editor_frame"].update(aligned_size=[178, 200]), "editor_frame.aligned_size"),
        (lambda m: m["editor_frame"]["landmarks"][0].reverse(), "editor_frame.landmarks"),
        (lambda m: m["editor_frame"].update(crop_box=[0, 0, 10, 11]), "square"),
        (lambda m: m["editor_frame"].update(image_size=16), "editor.onnx"),
        (lambda m: m["files"]["editor.onnx"]["outputs"].reverse(), "editor.onnx"),
        (lambda m: m["attributes"][0].update(experimental={"sideways": "no"}), "experimental"),
        (lambda m: m["attributes"][0].update(experimental={"added": ""}), "experimental"),
        (lambda m: m["prior"].update(latent_mean=[0, 0, 0]), "prior.latent_mean"),
        (lambda m: m["prior"].update(attribute_levels=[[0, 1]]), "attribute_levels"),
        (lambda m: m["files"].update({"prior.onnx": m["files"]["decoder.onnx"]}), "prior.onnx"),
    ],
)
def test_parts_of_schema_2_that_contradict_each_other_are_refused(edited: Path, change: Callable, rule: str):
    fakes.rewrite_manifest(edited, change)
    refused(edited, MANIFEST, rule)


def test_a_learned_prior_has_its_place(edited: Path):
    inputs, outputs = learned_prior_interface(fakes.LATENT_SIZE, len(fakes.ATTRIBUTES))
    (edited / LEARNED_PRIOR).write_bytes(b"not really a prior")
    entry = FileEntry(sha256=loader.sha256_file(edited / LEARNED_PRIOR), bytes=18, inputs=inputs, outputs=outputs)
    fakes.rewrite_manifest(edited, lambda m: m["files"].update({LEARNED_PRIOR: entry.model_dump()}))
    assert loader.load(edited).manifest.graph_kinds == ("encoder", "decoder", "editor", "prior")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda m: m.update(editor_frame=m["frame"]), "schema_version 1"),
        (lambda m: m["attributes"][0].update(experimental={"added": "badly"}), "schema_version 1"),
        (lambda m: m["files"].update({"editor.onnx": m["files"]["decoder.onnx"]}), "editor.onnx"),
    ],
)
def test_schema_1_knows_no_editor(bundle_directory: Path, change: Callable, rule: str):
    fakes.rewrite_manifest(bundle_directory, change)
    refused(bundle_directory, MANIFEST, rule)


def test_the_shipped_bundles_load():
    for path in sorted((Path(__file__).parents[3] / "bundles").glob("*/manifest.json")):
        loaded = loader.load(path.parent)
        assert loaded.prior.latent_mean.shape == (loaded.manifest.latent_size,)


@pytest.mark.parametrize("name", ["celeba64", "celeba64-beta4", "celeba128"])
def test_the_shipped_bundles_know_other_names(name: str):
    manifest = loader.read_manifest(Path(__file__).parents[3] / "bundles" / name)
    expected = {"smiling": "Smiling", "blondhair": "Blond_Hair", "blonde": "Blond_Hair", "glasses": "Eyeglasses"}
    assert {spelling: manifest.spellings[spelling] for spelling in expected} == {
        spelling: (name, 1) for spelling, name in expected.items()
    }
    assert manifest.spellings["beard"] == ("No_Beard", -1)


def test_aliases_may_be_missing(bundle_directory: Path):
    """As they are in bundles of before."""

    def change(values: dict[str, Any]) -> None:
        for attribute in values["attributes"]:
            del attribute["aliases"], attribute["opposites"]

    fakes.rewrite_manifest(bundle_directory, change)
    assert loader.load(bundle_directory).manifest.attributes[0].aliases == []
