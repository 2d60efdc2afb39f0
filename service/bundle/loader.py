"""Loads and verifies a bundle: its manifest, the presence, size and hash of every file, and its priors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import ValidationError

from service.bundle.gaussian_prior import PRIOR_FILE as PRIOR_FILE
from service.bundle.gaussian_prior import GaussianPrior, PriorError
from service.bundle.manifest import MANIFEST, SCHEMA_VERSION, BundleError, Manifest, ManifestOfSchema1, SamplingPrior


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: every listed file is present and has the listed hash."""

    directory: Path
    manifest: Manifest

    @property
    def identity(self) -> str:
        """`name@version`, as responses and metrics show it."""
        return f"{self.manifest.name}@{self.manifest.version}"

    @cached_property
    def prior(self) -> GaussianPrior:
        """The prior that faces are generated from. Raises BundleError if its file does not fit the manifest."""
        manifest = self.manifest
        if isinstance(manifest.prior, SamplingPrior):
            return GaussianPrior.of(manifest.prior)
        path = self.path(PRIOR_FILE)
        try:
            return GaussianPrior.read(path, manifest.prior, manifest.latent_size, len(manifest.attributes))
        except PriorError as exc:
            raise BundleError(path, str(exc)) from exc

    def path(self, name: str) -> Path:
        return self.directory / name


def sha256_file(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Read and check `manifest.json` alone. Raises BundleError."""
    path = Path(directory) / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise BundleError(path, "is missing; a bundle must have a manifest") from exc
    except (OSError, ValueError, RecursionError) as exc:
        raise BundleError(path, "is not readable JSON") from exc
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            path, f"schema_version {version} is newer than {SCHEMA_VERSION}, the newest this service reads; upgrade it"
        )
    schema = ManifestOfSchema1 if version == 1 and version is not True else Manifest
    try:
        return schema.model_validate(values)
    except ValidationError as exc:
        raise BundleError(path, "; ".join(_explain(error) for error in exc.errors()[:5])) from exc


def load(directory: Path) -> Bundle:
    """Read a bundle and verify every file against the manifest. Raises BundleError."""
    directory = Path(directory)
    manifest = read_manifest(directory)
    for name, entry in manifest.files.items():
        path = directory / name
        if path.name != name or name == "..":
            raise BundleError(directory / MANIFEST, f"files.{name}: must be a plain file name inside the bundle")
        if not path.is_file():
            raise BundleError(path, "is listed in the manifest and missing")
        try:
            size, digest = path.stat().st_size, sha256_file(path)
        except OSError as exc:
            raise BundleError(path, "cannot be read") from exc
        if size != entry.bytes:
            raise BundleError(path, f"has {size} bytes; the manifest says {entry.bytes}")
        if digest != entry.sha256:
            raise BundleError(path, "its sha256 differs from the manifest's; the file was changed or damaged")
    bundle = Bundle(directory, manifest)
    _ = bundle.prior  # reads the file now, so that a damaged one is refused here
    return bundle


def _explain(error: dict) -> str:
    location = ".".join(str(part) for part in error["loc"]) or "manifest"
    if error["type"] == "extra_forbidden":
        return f"unknown key {location!r}"
    if error["type"] == "missing":
        return f"the key {location!r} is missing"
    return f"{location}: {error['msg']}"
