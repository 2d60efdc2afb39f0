"""The Gaussians that faces are generated from, as arrays; of a bundle, the large ones in a file of their own."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

FILE = "gaussian_prior.npz"


class PriorError(ValueError):
    """A file of arrays that cannot be used; the message says which array breaks which rule."""


class AttributeNumbers(Protocol):
    """`service.bundle.AttributePrior`."""

    attribute_mean: list[float]
    attribute_covariance: list[list[float]]
    attribute_levels: list[tuple[float, float]] | None


class Numbers(AttributeNumbers, Protocol):
    """`service.bundle.SamplingPrior`."""

    latent_mean: list[float]
    latent_weights: list[list[float]]
    latent_cholesky: list[list[float]]


@dataclass(frozen=True)
class GaussianPrior:
    """Given attributes a, latents lie at latent_mean + latent_weights a, with a covariance of this Cholesky factor.

    Those of latents are in single precision: a large factor is read from memory for every picture.
    """

    latent_mean: np.ndarray  # f32 [Z]
    latent_weights: np.ndarray  # f32 [Z, K]
    latent_cholesky: np.ndarray  # f32 [Z, Z], lower triangle
    attribute_mean: np.ndarray  # f64 [K], of labels in -1..1
    attribute_covariance: np.ndarray  # f64 [K, K]
    attribute_levels: np.ndarray  # f32 [K, 2]: what faces without and with an attribute typically show

    @classmethod
    def of(cls, numbers: Numbers) -> GaussianPrior:
        """The same numbers as arrays; those of each row of the Cholesky factor end at its diagonal."""
        size = len(numbers.latent_mean)
        cholesky = np.zeros((size, size), dtype=np.float32)
        for i, row in enumerate(numbers.latent_cholesky):
            cholesky[i, : i + 1] = row
        mean, weights = (np.asarray(a, dtype=np.float32) for a in (numbers.latent_mean, numbers.latent_weights))
        return cls(mean, weights, cholesky, *_of_attributes(numbers))

    @classmethod
    def read(cls, path: Path, numbers: AttributeNumbers, latent_size: int, attributes: int) -> GaussianPrior:
        """The arrays of a file that `write` wrote, with those of the attributes. Raises PriorError."""
        shapes = {
            "latent_mean": (latent_size,),
            "latent_weights": (latent_size, attributes),
            "latent_cholesky": (latent_size, latent_size),
        }
        try:
            # Pickled objects would be code.
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
        """Write the large arrays; equal ones give equal bytes."""
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
