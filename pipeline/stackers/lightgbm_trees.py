"""Gradient boosted trees (LightGBM) on principal components, with a floor that keeps rare classes from diverging."""

from collections.abc import Callable
from typing import Any

import lightgbm
import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.config.stacker import LightgbmConfig
from pipeline.stackers.inner import watched_rows
from pipeline.stackers.projection import fit_projection, spread_scores

FLOOR = 1e-15       # smallest probability before the logarithm
WATCHED = 0.2       # share of the rows that early stopping watches


def fit(
    features: np.ndarray, labels: np.ndarray, *, n_classes: int, config: LightgbmConfig, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Log probabilities of a softmax of boosted trees; see registry.load.

    `features` `(n, D)`, `labels` `(n,)` in 0..n_classes-1; scores `(m, C)` float32. With `patience`, trees fitted on
    four fifths of each class say after how many rounds the rest is predicted best; all rows then get that many.
    """
    present, targets = np.unique(labels, return_inverse=True)
    if len(present) == 1:
        return lambda rows: spread_scores(np.zeros((len(rows), 1)), present, n_classes=n_classes)
    with threadpool_limits(1):
        project = fit_projection(features, pca=config.pca)
        inputs = project(features)                                                   # (n, P)
        rounds = config.rounds if config.patience is None else _best_rounds(features, targets, config, seed)
    booster = lightgbm.train(_parameters(config, len(present), seed), lightgbm.Dataset(inputs, targets),
                             num_boost_round=rounds)

    def predict(rows: np.ndarray) -> np.ndarray:
        with threadpool_limits(1):
            inputs = project(rows)
        probabilities = np.asarray(booster.predict(inputs, num_threads=1))           # (m, classes present)
        return spread_scores(np.log(np.maximum(probabilities, FLOOR)), present, n_classes=n_classes)

    return predict


def _best_rounds(features: np.ndarray, targets: np.ndarray, config: LightgbmConfig, seed: int) -> int:
    """Rounds, at most `config.rounds`, with the least log loss of watched rows; all where there are none to watch."""
    watched = watched_rows(targets, share=WATCHED, seed=seed)
    if not watched.any():
        return config.rounds
    project = fit_projection(features[~watched], pca=config.pca)
    learned = lightgbm.Dataset(project(features[~watched]), targets[~watched])
    stopped = lightgbm.train(
        {**_parameters(config, int(targets.max()) + 1, seed), "metric": "multi_logloss"}, learned,
        num_boost_round=config.rounds,
        valid_sets=[lightgbm.Dataset(project(features[watched]), targets[watched], reference=learned)],
        callbacks=[lightgbm.early_stopping(config.patience or config.rounds, verbose=False)])
    return max(1, stopped.best_iteration)


def _parameters(config: LightgbmConfig, n_classes: int, seed: int) -> dict[str, Any]:
    return {
        "objective": "multiclass", "num_class": n_classes, "learning_rate": config.learning_rate,
        "num_leaves": config.leaves, "min_sum_hessian_in_leaf": config.min_sum_hessian,
        "min_data_in_leaf": config.min_rows, "max_bin": config.bins, "feature_fraction": config.feature_share,
        "seed": seed % 2**31, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1,
    }
