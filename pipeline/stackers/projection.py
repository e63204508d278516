"""Standardised and projected features, and scores for the classes that no row has."""

from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA

CONSTANT = 1e-6     # a feature whose deviation is below this share of the largest is noise of rounding


def fit_projection(features: np.ndarray, *, pca: int | None) -> Callable[[np.ndarray], np.ndarray]:
    """Map from features `(m, D)` to zero mean and unit variance, then to `pca` principal components, float32.

    Fitted on `features` `(n, D)` alone. Constant features are only centred. `pca` is cut to min(n, D); the
    components keep their variances (no whitening).
    """
    mean = features.mean(axis=0, dtype=np.float64)                                   # (D,)
    deviation = features.std(axis=0, dtype=np.float64)
    scale = np.where(deviation > CONSTANT * deviation.max(initial=0.0), deviation, 1.0)

    def standardise(rows: np.ndarray) -> np.ndarray:
        return ((rows - mean) / scale).astype(np.float32)

    if pca is None:
        return standardise
    components = PCA(min(pca, *features.shape), svd_solver="covariance_eigh").fit(standardise(features))
    return lambda rows: components.transform(standardise(rows)).astype(np.float32)   # (m, pca)


def spread_scores(scores: np.ndarray, present: np.ndarray, *, n_classes: int) -> np.ndarray:
    """Scores `(m, P)` of the classes in `present` `(P,)`, and one below the lowest of the row for all others.

    So an absent class is never the answer, and yet keeps a bounded log loss where it turns up after all.
    """
    lowest = scores.min(axis=1, keepdims=True)                                       # (m, 1)
    spread = np.repeat(lowest - 1, n_classes, axis=1).astype(np.float32)             # (m, C)
    spread[:, present] = scores
    return spread
