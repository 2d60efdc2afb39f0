"""The sampling prior: Gaussians fitted to where the training pictures really lie.

A VAE's aggregate posterior is not the prior it was trained towards, so decoding N(0, I) asks for latents that no
picture has (Dai & Wipf 2019); a full-covariance Gaussian fitted afterwards is the simplest cure (Ghosh et al. 2020).
"""

from __future__ import annotations

import numpy as np

from service.bundle import SamplingPrior


def fit_prior(mean: np.ndarray, log_variance: np.ndarray, labels: np.ndarray) -> SamplingPrior:
    """Fit to posteriors f32 [N, Z] of the training set and its labels [N, K] in {-1, +1}.

    The aggregate posterior's covariance is that of the means plus the mean variance.
    """
    covariance = np.cov(mean.astype(np.float64), rowvar=False) + np.diag(np.exp(log_variance).mean(0))
    cholesky = np.linalg.cholesky(covariance)
    return SamplingPrior(
        latent_mean=_rounded(mean.mean(0)),
        latent_cholesky=[_rounded(row[: i + 1]) for i, row in enumerate(cholesky)],
        attribute_mean=_rounded(labels.mean(0)),
        attribute_covariance=[_rounded(row) for row in np.atleast_2d(np.cov(labels, rowvar=False))],
    )


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 5) for value in values]
