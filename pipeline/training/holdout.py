"""Rows that early stopping watches: held out of the training fold, never of the fold that is predicted."""

import numpy as np

from pipeline.errors import UserError


def split_holdout(
    rows: np.ndarray, labels: np.ndarray, *, share: float, rng: np.random.Generator, where: str
) -> tuple[np.ndarray, np.ndarray]:
    """`rows` cut into `(learned, watched)`, both in their order; about `share` of each class is watched.

    `labels` belong to `rows` one by one. A class gives `share` of its rows rounded up or down at random, and always
    keeps one to learn from. Raises UserError, naming `where`, when no row is left to watch.
    """
    watched = np.zeros(len(rows), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        count = min(int(share * len(members) + rng.random()), len(members) - 1)
        watched[members[:count]] = True
    if not watched.any():
        raise UserError(f"{where}.early_stopping.holdout: {share:g} of {len(rows)} rows leaves none to watch; "
                        "fix: a larger share, or early_stopping: null")
    return rows[~watched], rows[watched]
