"""Whether predictions know anything of labels that they have not seen: against the same labels dealt anew in each fold.

Source: the mean and variance of a sum over random pairs, Hoeffding 1951, Annals of Mathematical Statistics 22(4).
"""

from dataclasses import dataclass

import numpy as np

from pipeline.rng import generator


@dataclass(frozen=True)
class Excess:
    """How much more the true class is given than a stranger to the labels would give it."""

    gain: float     # mean probability of the true class, minus its mean over all ways to deal the labels within folds
    z: float        # the gain in standard deviations over those ways: standard normal for predictions at chance


def excess(predictions: np.ndarray, labels: np.ndarray, *, folds: np.ndarray) -> Excess:
    """Exact, without drawing: predictions `(N, C)` against labels `(N,)` that may move within their fold `(N,)`.

    In a fold of n rows, n_c of them in class c, the sum of p_i(y_i) has the mean n g and the variance
    sum_i,c n_c (p_ic - r_i - b_c + g)^2 / (n - 1), r_i and b_c the means over the labels and over the rows, g over
    both. Predictions that are the same in all rows of a fold have z = 0.
    """
    gained = variance = 0.0
    for fold in np.unique(folds):
        rows = folds == fold
        own, rest = predictions[rows].astype(np.float64), labels[rows]                           # (n, C)
        count = len(own)
        shares = np.bincount(rest, minlength=own.shape[1]) / count                               # (C,)
        by_row, by_class = own @ shares, own.mean(axis=0)                                        # (n,), (C,)
        overall = float(by_class @ shares)
        gained += float(own[np.arange(count), rest].sum()) - count * overall
        own -= by_row[:, None] + (by_class - overall)
        own *= own
        variance += count * float(own.sum(axis=0) @ shares) / max(count - 1, 1)
    certain = variance <= 1e-12 * len(labels)       # nothing but rounding
    return Excess(gained / len(labels), 0.0 if certain else gained / variance**0.5)


def together(parts: list[Excess]) -> Excess:
    """What independent shuffles say together: the mean gain, and the sum of z over the root of their number."""
    return Excess(float(np.mean([p.gain for p in parts])), float(np.sum([p.z for p in parts]) / len(parts) ** 0.5))


def dealt_anew(labels: np.ndarray, *, folds: np.ndarray, seed: int) -> np.ndarray:
    """The labels `(N,)`, shuffled within each fold `(N,)`: class counts of folds stay, all else is chance."""
    return labels[shuffled_rows(folds, seed=seed)]


def shuffled_rows(folds: np.ndarray, *, seed: int) -> np.ndarray:
    """A permutation `(N,)` of the rows that keeps each in its fold `(N,)`."""
    random, rows = generator(seed, "within folds"), np.arange(len(folds))
    for fold in np.unique(folds):
        own = np.flatnonzero(folds == fold)
        rows[own] = random.permutation(own)
    return rows

