"""Gradient boosted trees (LightGBM) on principal components, with a floor that keeps rare classes from diverging."""

from collections.abc import Callable

import lightgbm
import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.config.stacker import LightgbmConfig
from pipeline.stackers.projection import fit_projection, spread_scores

FLOOR = 1e-15       # smallest probability before the logarithm


def fit(
    features: np.ndarray, labels: np.ndarray, *, n_classes: int, config: LightgbmConfig, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Log probabilities of a softmax of boosted trees; see registry.load.

    `features` `(n, D)`, `labels` `(n,)` in 0..n_classes-1; scores `(m, C)` float32.
    """
    present, targets = np.unique(labels, return_inverse=True)
    if len(present) == 1:
        return lambda rows: spread_scores(np.zeros((len(rows), 1)), present, n_classes=n_classes)
    with threadpool_limits(1):
        project = fit_projection(features, pca=config.pca)
        inputs = project(features)                                                   # (n, P)
    booster = lightgbm.train(
        {
            "objective": "multiclass", "num_class": len(present), "learning_rate": config.learning_rate,
            "num_leaves": config.leaves, "min_sum_hessian_in_leaf": config.min_sum_hessian,
            "min_data_in_leaf": config.min_rows, "max_bin": config.bins, "feature_fraction": config.feature_share,
            "seed": seed % 2**31, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1,
        },
        lightgbm.Dataset(inputs, targets),
        num_boost_round=config.rounds,
    )

    def predict(rows: np.ndarray) -> np.ndarray:
        with threadpool_limits(1):
            inputs = project(rows)
        probabilities = np.asarray(booster.predict(inputs, num_threads=1))           # (m, classes present)
        return spread_scores(np.log(np.maximum(probabilities, FLOOR)), present, n_classes=n_classes)

    return predict
