"""The Gaussian priors that faces are generated from, as arrays. A bundle keeps the large arrays in a file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

PRIOR_FILE = "gaussian_prior.npz"


class PriorError(ValueError):
    """A file of arrays that is refused; the message names the array and the broken rule."""


class AttributeNumbers(Protocol):
    """The fields of service.bundle.manifest.AttributePrior."""

    attribute_mean: list[float]
    attribute_covariance: list[list[float]]
    attribute_levels: list[tuple[float, float]] | None


class Numbers(AttributeNumbers, Protocol):
    """The fields of service.bundle.manifest.SamplingPrior."""

    latent_mean: list[float]
    latent_weights: list[list[float]]
    latent_cholesky: list[list[float]]


@dataclass(frozen=True)
class GaussianPrior:
    """Given attributes a, latents are Gaussian with mean latent_mean + latent_weights a and this Cholesky factor.

    The arrays of latents are in single precision, because the large factor is read from memory for every picture.
    """

    latent_mean: np.ndarray  # f32 [Z]
    latent_weights: np.ndarray  # f32 [Z, K]
    latent_cholesky: np.ndarray  # f32 [Z, Z], lower triangle
    attribute_mean: np.ndarray  # f64 [K], of labels in -1..1
    attribute_covariance: np.ndarray  # f64 [K, K]
    attribute_levels: np.ndarray  # f32 [K, 2]: typical values of faces without and with an attribute

    @classmethod
    def of(cls, numbers: Numbers) -> GaussianPrior:
        """From the lists of a manifest or checkpoint; each row of their Cholesky factor ends at the diagonal."""
        size = len(numbers.latent_mean)
        cholesky = np.zeros((size, size), dtype=np.float32)
        for i, row in enumerate(numbers.latent_cholesky):
            cholesky[i, : i + 1] = row
        mean, weights = (np.asarray(a, dtype=np.float32) for a in (numbers.latent_mean, numbers.latent_weights))
        return cls(mean, weights, cholesky, *_of_attributes(numbers))

    @classmethod
    def read(cls, path: Path, numbers: AttributeNumbers, latent_size: int, attributes: int) -> GaussianPrior:
        """From a file that `write` wrote, and the attributes' numbers in the manifest. Raises PriorError."""
        shapes = {
            "latent_mean": (latent_size,),
            "latent_weights": (latent_size, attributes),
            "latent_cholesky": (latent_size, latent_size),
        }
        try:
            # Unpickling objects would execute code.
            with path.open("rb") as data, np.load(data, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, TypeError, ValueError, EOFError, zlib.error, zipfile.BadZipFile) as exc:
            raise PriorError("cannot be read as a file of arrays (npz) without objects") from exc
        if arrays.keys() != shapes.keys():
            raise PriorError(f"holds the arrays {_listed(arrays)}; they must be {_listed(shapes)}")
        for name, shape in shapes.items():
            array = arrays[name]
            if array.dtype != np.float32 or array.shape != shape:
                found = f"{array.dtype}{list(array.shape)}"
                raise PriorError(f"{name} is {found}; the manifest's sizes imply float32{list(shape)}")
            if not np.isfinite(array).all():
                raise PriorError(f"{name} has values that are not finite")
        if np.triu(arrays["latent_cholesky"], 1).any():
            raise PriorError("latent_cholesky must be a lower triangle")
        return cls(**arrays, **dict(zip(_ATTRIBUTES, _of_attributes(numbers), strict=True)))

    def write(self, path: Path) -> None:
        """Write the latents' arrays; equal arrays give equal bytes."""
        arrays = {name: getattr(self, name) for name in ("latent_mean", "latent_weights", "latent_cholesky")}
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)


_ATTRIBUTES = ("attribute_mean", "attribute_covariance", "attribute_levels")


def _of_attributes(numbers: AttributeNumbers) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, covariance = np.asarray(numbers.attribute_mean), np.asarray(numbers.attribute_covariance)
    levels = numbers.attribute_levels or [(-1.0, 1.0)] * len(mean)
    return mean, covariance, np.asarray(levels, dtype=np.float32)


def _listed(names: Sequence[str] | dict) -> str:
    return ", ".join(sorted(names)) or "none"
