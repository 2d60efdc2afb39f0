"""The sampling prior: Gaussians fitted to where the training pictures really lie.

A VAE's aggregate posterior is not the prior it was trained towards, so decoding N(0, I) asks for latents that no
picture has (Dai & Wipf 2019); a full-covariance Gaussian fitted afterwards is the simplest cure (Ghosh et al. 2020).
"""

from __future__ import annotations

import numpy as np

from service.bundle.manifest import SamplingPrior

_PLAIN = 0.5  # an attribute that encoders are seldom sure of is still drawn so plainly


def fit_prior(mean: np.ndarray, log_variance: np.ndarray, current: np.ndarray, labels: np.ndarray) -> SamplingPrior:
    """Fit to posteriors f32 [N, Z] of the training set, the attributes [N, K] they go with, and the labels [N, K].

    What a latent still tells of its attributes is regressed on them, or a face drawn for one set of attributes would
    come with the latent of another. The covariance is that of what is left of the means plus the mean variance.
    """
    design = np.column_stack([current, np.ones(len(current))]).astype(np.float64)
    ridge = 1e-3 * len(design) * np.eye(design.shape[1])
    weights = np.linalg.solve(design.T @ design + ridge, design.T @ mean).T  # [Z, K + 1]
    left = mean - design @ weights.T
    covariance = np.cov(left, rowvar=False) + np.diag(np.exp(log_variance).mean(0))
    return SamplingPrior(
        latent_mean=_rounded(weights[:, -1] + left.mean(0)),
        latent_weights=[_rounded(row[:-1]) for row in weights],
        latent_cholesky=[_rounded(row[: i + 1]) for i, row in enumerate(np.linalg.cholesky(covariance))],
        attribute_mean=_rounded(labels.mean(0)),
        attribute_covariance=[_rounded(row) for row in np.atleast_2d(np.cov(labels, rowvar=False))],
        attribute_levels=[_levels(*columns) for columns in zip(current.T, labels.T, strict=True)],
    )


def _levels(current: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """What faces without and with one attribute show on average, f [N] each; at least half absent, half present."""
    absent, present = (current[labels == value] for value in (-1, 1))
    return (
        round(float(min(-_PLAIN, absent.mean())) if absent.size else -1.0, 5),
        round(float(max(_PLAIN, present.mean())) if present.size else 1.0, 5),
    )


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]
