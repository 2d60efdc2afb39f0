"""A bundle is verified before anything of it is used; a refusal names the file and the broken rule."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service import bundle
from service.bundle import BundleError
from tests.service import fakes


def test_a_valid_bundle_loads_with_its_identity_and_paths(bundle_directory: Path):
    loaded = bundle.load(bundle_directory)
    assert loaded.identity == "tiny@1.2.3"
    assert loaded.manifest.attribute_names == list(fakes.ATTRIBUTES)
    assert loaded.path("encoder.onnx") == bundle_directory / "encoder.onnx"


def test_a_directory_may_be_given_as_text(bundle_directory: Path):
    assert bundle.load(str(bundle_directory)).manifest == bundle.read_manifest(bundle_directory)


def test_what_is_written_is_what_is_read(bundle_directory: Path, tmp_path: Path):
    written = fakes.write_bundle(tmp_path / "again" / "tiny")
    assert bundle.read_manifest(bundle_directory) == written


@pytest.mark.parametrize("name", bundle.REQUIRED_FILES)
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


@pytest.mark.parametrize("name", bundle.REQUIRED_FILES)
def test_a_missing_file_is_refused(bundle_directory: Path, name: str):
    (bundle_directory / name).unlink()
    refused(bundle_directory, name, "missing")


def test_a_directory_in_place_of_a_file_is_refused(bundle_directory: Path):
    (bundle_directory / "encoder.onnx").unlink()
    (bundle_directory / "encoder.onnx").mkdir()
    refused(bundle_directory, "encoder.onnx")


def test_a_missing_manifest_is_refused(bundle_directory: Path):
    (bundle_directory / bundle.MANIFEST).unlink()
    refused(bundle_directory, bundle.MANIFEST, "missing")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b'{"name": }', b"[" * 200_000])
def test_a_manifest_that_is_not_json_is_refused(bundle_directory: Path, text: bytes):
    (bundle_directory / bundle.MANIFEST).write_bytes(text)
    refused(bundle_directory, bundle.MANIFEST, "JSON")


@pytest.mark.parametrize("text", ["[]", "null", "1", '"manifest"'])
def test_a_manifest_that_is_no_object_is_refused(bundle_directory: Path, text: str):
    (bundle_directory / bundle.MANIFEST).write_text(text)
    refused(bundle_directory, bundle.MANIFEST)


def test_an_unknown_key_is_refused_by_name(bundle_directory: Path):
    fakes.rewrite_manifest(bundle_directory, lambda m: m.update(colour="blue"))
    refused(bundle_directory, bundle.MANIFEST, "unknown key", "colour")


def test_an_unknown_key_deep_inside_is_refused_by_its_whole_name(bundle_directory: Path):
    fakes.rewrite_manifest(bundle_directory, lambda m: m["frame"].update(zoom=2))
    refused(bundle_directory, bundle.MANIFEST, "frame.zoom")


def test_a_newer_schema_is_refused_as_newer_even_with_unknown_keys(bundle_directory: Path):
    fakes.rewrite_manifest(bundle_directory, lambda m: m.update(schema_version=3, colour="blue"))
    refused(bundle_directory, bundle.MANIFEST, "schema_version 3", "newer")


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.5])
def test_a_schema_that_never_was_is_refused(bundle_directory: Path, version: Any):
    fakes.rewrite_manifest(bundle_directory, lambda m: m.update(schema_version=version))
    refused(bundle_directory, bundle.MANIFEST, "schema_version")


@pytest.mark.parametrize(
    "key",
    [
        "schema_version", "name", "version", "weights_licence", "frame", "latent_size", "attributes", "prior",
        "files", "parity", "training", "evaluation",
    ],
)  # fmt: skip
def test_a_missing_key_is_refused_by_name(bundle_directory: Path, key: str):
    fakes.rewrite_manifest(bundle_directory, lambda m: m.pop(key))
    refused(bundle_directory, bundle.MANIFEST, key, "missing")


@pytest.mark.parametrize("name", ["../outside.txt", "inside/file.txt", "/etc/hostname", "..", ".", ""])
def test_a_file_name_with_a_path_in_it_is_refused(bundle_directory: Path, name: str):
    for place in (bundle_directory.parent / "outside.txt", bundle_directory / "inside" / "file.txt"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("here")
    entry = {"sha256": bundle.sha256_file(place), "bytes": 4}
    fakes.rewrite_manifest(bundle_directory, lambda m: m["files"].update({name: entry}))
    with pytest.raises(BundleError) as caught:
        bundle.load(bundle_directory)
    assert str(caught.value).startswith(f"{bundle_directory / bundle.MANIFEST}: files.{name}: ")


def test_a_refused_path_is_not_said_to_be_missing(bundle_directory: Path):
    (bundle_directory / "inside").mkdir()
    extra = bundle_directory / "inside" / "file.txt"
    extra.write_text("here")
    entry = {"sha256": bundle.sha256_file(extra), "bytes": 4}
    fakes.rewrite_manifest(bundle_directory, lambda m: m["files"].update({"inside/file.txt": entry}))
    with pytest.raises(BundleError, match=r"inside/file\.txt") as caught:
        bundle.load(bundle_directory)
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
    refused(bundle_directory, bundle.MANIFEST, rule)


def test_a_file_that_is_not_listed_does_no_harm(bundle_directory: Path):
    (bundle_directory / "notes.txt").write_text("mine")
    assert "notes.txt" not in bundle.load(bundle_directory).manifest.files


def test_a_bundle_that_is_not_there_is_refused(bundle_directory: Path):
    shutil.rmtree(bundle_directory)
    refused(bundle_directory, bundle.MANIFEST)


def test_a_manifest_cannot_be_changed_after_reading(bundle_directory: Path):
    manifest = bundle.read_manifest(bundle_directory)
    with pytest.raises(ValueError, match="frozen"):
        manifest.name = "other"


def refused(directory: Path, *words: str) -> None:
    with pytest.raises(BundleError) as caught:
        bundle.load(directory)
    message = str(caught.value)
    assert str(directory) in message
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_file_that_cannot_be_read_is_refused_by_name(bundle_directory: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(bundle, "sha256_file", fails)
    with pytest.raises(BundleError, match=r"encoder\.onnx: cannot be read"):
        bundle.load(bundle_directory)
