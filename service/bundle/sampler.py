"""Samples attributes and latents of generated faces from the priors of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from statistics import NormalDist

import numpy as np

from service.bundle.gaussian_prior import GaussianPrior
from service.bundle.manifest import SamplingPrior
from service.bundle.vectors import clear_groups

# A learned prior: noise f32 [N, Z] and attributes f32 [N, K] in -1..1 to latents f32 [N, Z].
LearnedPrior = Callable[[np.ndarray, np.ndarray], np.ndarray]
# Factor of the latents' standard deviation: below 1, faces vary less than real ones, and fewer look wrong.
TEMPERATURE = 0.7
_KEPT_CONDITIONINGS = 256


class Sampler:
    """Samples latents and attributes from a bundle's prior.

    `groups` [K] names each attribute's exclusive group, or None. Each picture of a request has its own random stream,
    seeded by the request's seed and the picture's index, so a picture does not depend on how many are requested.
    """

    def __init__(self, prior: GaussianPrior | SamplingPrior, groups: Sequence[str | None]) -> None:
        prior = prior if isinstance(prior, GaussianPrior) else GaussianPrior.of(prior)
        self._latent_mean, self._latent_weights = prior.latent_mean, prior.latent_weights
        self._cholesky = prior.latent_cholesky
        self._groups = list(groups)
        self._mean, self._covariance = prior.attribute_mean, prior.attribute_covariance
        # A Gaussian exceeds this threshold as often as the label is present; it would exceed 0 too rarely.
        shares = (0.5 * (1 + self._mean)).clip(1e-4, 1 - 1e-4)
        quantiles = np.array([NormalDist().inv_cdf(1 - share) for share in shares])
        self._threshold = self._mean + quantiles * np.sqrt(np.diag(self._covariance))
        self._levels = prior.attribute_levels
        # Requests repeat the same sets of attributes, and each set takes a matrix inversion.
        self._conditioning = lru_cache(_KEPT_CONDITIONINGS)(partial(_condition, self._covariance))

    def noise(self, seed: int, count: int, temperature: float = TEMPERATURE) -> np.ndarray:
        """f32 [count, Z], normal with the standard deviation `temperature`."""
        size = len(self._latent_mean)
        noise = np.empty((count, size), dtype=np.float32)
        for i, row in enumerate(noise):
            row[:] = self._stream(seed, i).standard_normal(size)
        return np.float32(temperature) * noise

    def latents(
        self,
        seed: int,
        attributes: np.ndarray,
        temperature: float = TEMPERATURE,
        learned: LearnedPrior | None = None,
    ) -> np.ndarray:
        """f32 [N, Z] given `attributes` f32 [N, K]; `temperature` scales the noise, 0 gives the most typical faces.

        From the Gaussian prior, unless there is a `learned` one.
        """
        noise, attributes = self.noise(seed, len(attributes), temperature), within_labels(attributes)
        if learned is not None:
            return learned(noise, attributes)
        mean = self._latent_mean + attributes @ self._latent_weights.T
        return (mean + noise @ self._cholesky.T).astype(np.float32, copy=False)

    def attributes(self, params: np.ndarray, seed: int, count: int) -> np.ndarray:
        """f32 [count, K]: `params` f32 [K] with its NaNs sampled given the other values.

        The labels are modelled as jointly Gaussian, conditioned on `params`, and samples are thresholded to absent or
        present: a request for a moustache mostly gives men. Sampled attributes have the typical level of faces with or
        without the attribute, whereas `params` may exaggerate.
        """
        params = clear_groups(params, self._groups)
        rows = np.repeat(params[None], count, axis=0)
        free = np.isnan(params)
        if free.any():
            mean, cholesky = self._given(params, free)
            for i in range(count):
                excess = mean + cholesky @ self._stream(seed, i, 1).standard_normal(len(mean)) - self._threshold[free]
                rows[i, free] = np.where(excess > 0, 1.0, -1.0)
                self._settle_groups(rows[i], excess, free)
        absent, present = self._levels.T
        return np.where(free, np.where(rows > 0, present, absent), rows)

    def expected(self, known: np.ndarray) -> np.ndarray:
        """`known` f32 [K] with each NaN replaced by its mean given the rest, within -1..1."""
        free = np.isnan(known)
        filled = known.copy()
        filled[free] = self._given(known, free)[0].clip(-1, 1)
        return filled

    def _given(self, known: np.ndarray, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean f64 [F] and Cholesky factor f64 [F, F] of the attributes that are `free`, given the others' values."""
        weights, cholesky = self._conditioning(tuple(free.tolist()))
        return self._mean[free] + weights @ (known[~free].clip(-1, 1) - self._mean[~free]), cholesky

    def _settle_groups(self, row: np.ndarray, excess: np.ndarray, free: np.ndarray) -> None:
        """In each exclusive group keep only the sampled attribute with the largest excess, in place."""
        score = np.full(len(row), np.inf)
        score[free] = excess
        for group in {name for name in self._groups if name}:
            members = [i for i, name in enumerate(self._groups) if name == group and row[i] > 0]
            for index in members:
                if free[index] and index != max(members, key=lambda i: score[i]):
                    row[index] = -1.0

    @staticmethod
    def _stream(seed: int, index: int, kind: int = 0) -> np.random.Generator:
        return np.random.default_rng([seed, index, kind])


def within_labels(attributes: np.ndarray) -> np.ndarray:
    """The nearest values in -1..1: priors know faces as labels describe them, and no exaggerated ones."""
    return attributes.clip(-1, 1)


def _condition(covariance: np.ndarray, free_attributes: tuple[bool, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The conditional Gaussian of the free attributes given the others.

    Weights f64 [F, K - F], which map the deviation of the others to the mean of the free ones, and the Cholesky factor
    f64 [F, F] of the conditional covariance.
    """
    free = np.array(free_attributes)
    # The ridge term keeps the matrix regular when an attribute is constant.
    inner = covariance[np.ix_(~free, ~free)] + 1e-3 * np.eye(int((~free).sum()))
    weights = np.linalg.solve(inner, covariance[np.ix_(~free, free)]).T
    rest = covariance[np.ix_(free, free)] - weights @ covariance[np.ix_(~free, free)]
    return weights, np.linalg.cholesky(rest + 1e-3 * np.eye(int(free.sum())))
