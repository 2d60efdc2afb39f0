"""Measures of quality: short pure functions on arrays, each with its source."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.stats
from scipy.ndimage import laplace
from skimage.metrics import structural_similarity
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

_FEWEST = 10  # rows of each value that a probe learns from: a tenth of all is held out to stop early
_LUMA = np.array([0.299, 0.587, 0.114])


def psnr(pictures: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of uint8 [N, H, W, 3], from the mean squared error over all pictures."""
    error = np.square(pictures.astype(np.float64) - reference.astype(np.float64)).mean()
    return float(10 * np.log10(255.0**2 / max(error, 1e-12)))


def ssim(pictures: np.ndarray, reference: np.ndarray) -> float:
    """Mean structural similarity of uint8 [N, H, W, 3] with a Gaussian window of sigma 1.5 (Wang et al. 2004)."""
    options = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(pictures, reference, strict=True)
    return float(np.mean([structural_similarity(a, b, data_range=255, **options) for a, b in pairs]))


def sharpness(pictures: np.ndarray) -> float:
    """Mean variance of the Laplacian of the luma of uint8 [N, H, W, 3]."""
    return float(np.mean([laplace(picture @ _LUMA).var() for picture in pictures.astype(np.float64)]))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Frechet (2-Wasserstein) distance of Gaussians fitted to f [N, D] and f [M, D] (Dowson & Landau 1982)."""
    mean_a, mean_b = a.mean(0), b.mean(0)
    covariance_a, covariance_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # tr sqrt(A B) = tr sqrt(sqrt(A) B sqrt(A)), whose argument is symmetric and so has a stable root.
    root = _symmetric_root(covariance_a)
    cross = np.sqrt(np.clip(scipy.linalg.eigvalsh(root @ covariance_b @ root), 0, None)).sum()
    return float(np.square(mean_a - mean_b).sum() + np.trace(covariance_a) + np.trace(covariance_b) - 2 * cross)


def _symmetric_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = scipy.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def monotonicity(strengths: np.ndarray, values: np.ndarray) -> float:
    """Mean Spearman correlation of `strengths` [T] with each row of `values` [N, T]."""
    ranks = scipy.stats.rankdata(values, axis=1)
    order = scipy.stats.rankdata(strengths)
    ranks = ranks - ranks.mean(1, keepdims=True)
    order = order - order.mean()
    scale = np.sqrt(np.square(ranks).sum(1) * np.square(order).sum())
    # A row without any change has no ranking; it counts as no correlation at all.
    return float(np.divide(ranks @ order, scale, out=np.zeros(len(ranks)), where=scale > 0).mean())


def auc(scores: np.ndarray, present: np.ndarray) -> float:
    """Area under the ROC curve of `scores` f [N] for bool [N]."""
    return float(roc_auc_score(present, scores))


def equal_error_threshold(scores: np.ndarray, present: np.ndarray) -> float:
    """The threshold above which as large a share of the absent is seen as of the present is missed.

    `scores` f [N], `present` bool [N] with both values. Of several such thresholds, or where none is exact, the one in
    the middle of those that come closest.
    """
    values = np.unique(scores)
    candidates = np.concatenate([[values[0] - 1], (values[:-1] + values[1:]) / 2, [values[-1] + 1]])
    there, not_there = np.sort(scores[present]), np.sort(scores[~present])
    missed = np.searchsorted(there, candidates, side="right") / len(there)
    false = 1 - np.searchsorted(not_there, candidates, side="right") / len(not_there)
    gap = np.abs(missed - false)
    closest = candidates[gap <= gap.min() + 1e-12]
    return float((closest[0] + closest[-1]) / 2)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """KID: the unbiased squared maximum mean discrepancy of f [N, D] and f [M, D] (Binkowski et al. 2018).

    The kernel is (x y / D + 1)^3. 0 on average for two samples of the same pictures' kind, and then often below it.
    Raises ValueError for fewer than two rows.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"{len(a)} and {len(b)} rows: a kernel distance needs two of each")
    a, b = a.astype(np.float64), b.astype(np.float64)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1) ** 3

    def within(x: np.ndarray) -> float:
        values = kernel(x, x)
        return (values.sum() - np.trace(values)) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def probe_auc(
    train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, kind: str
) -> np.ndarray:
    """How well a fresh probe reads each attribute from latents: area under the ROC curve [K].

    `train` f [N, Z] and `test` f [M, Z]; labels [N, K] in {-1, +1}; `kind` is "linear" (logistic regression) or "mlp".
    An attribute that `test_labels` show in one value only, or of which there are too few training rows, gets NaN.
    """
    scores = np.full(train_labels.shape[1], np.nan)
    for attribute in range(train_labels.shape[1]):
        target, truth = train_labels[:, attribute] > 0, test_labels[:, attribute] > 0
        if len(np.unique(truth)) < 2 or np.bincount(target, minlength=2).min() < _FEWEST:
            continue
        classifier = (
            LogisticRegression(max_iter=300, C=1.0)
            if kind == "linear"
            else MLPClassifier((128,), alpha=1e-3, max_iter=200, early_stopping=True, random_state=0)
        )
        probe = make_pipeline(StandardScaler(), classifier).fit(train, target)
        scores[attribute] = roc_auc_score(truth, probe.predict_proba(test)[:, 1])
    return scores
