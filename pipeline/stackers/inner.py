"""Rows that a stacker holds back from its own training rows, to choose what it does not fit."""

import numpy as np


def watched_rows(targets: np.ndarray, *, share: float, seed: int) -> np.ndarray:
    """Mask `(n,)` of about `share` of each class, drawn at random; every class keeps one row to learn from.

    A class of m rows gives floor(share * m + u) of them, u uniform in [0, 1) for each class, so that rare classes give
    their share in the mean.
    """
    rng = np.random.default_rng(seed)
    watched = np.zeros(len(targets), bool)
    for label in np.unique(targets):
        rows = rng.permutation(np.flatnonzero(targets == label))
        watched[rows[:min(int(share * len(rows) + rng.random()), len(rows) - 1)]] = True
    return watched
