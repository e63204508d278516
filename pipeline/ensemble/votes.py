"""Majority and weighted vote; ties go by the mean probability."""

import numpy as np

from pipeline.ensemble.contract import Fitted, Settings
from pipeline.ensemble.simplex import mixed, normalised

LEAST_WEIGHT = 1e-6     # of a member that is no better than chance, before normalisation


def vote_link(embedded: np.ndarray, fitted: Fitted) -> np.ndarray:
    """(M * weighted votes + weighted mean probability) / (M + 1).

    Each member votes for its most probable class (the first of equals). With equal weights one vote more always beats
    any difference of mean probabilities, because a class with a vote has a mean probability above zero, so the
    difference is below one.
    """
    members, rows, _ = embedded.shape
    tally = normalised(mixed(fitted.weights, embedded))                          # (n, C)
    every_row = np.arange(rows)
    for weight, member in zip(fitted.weights, embedded, strict=True):
        tally[every_row, member.argmax(axis=1)] += members * weight
    return normalised(tally)


def fit_log_odds(embedded: np.ndarray, labels: np.ndarray, *, settings: Settings) -> Fitted:
    """Weights proportional to log(a / (1 - a)) + log(C - 1), a the member's accuracy: zero at chance.

    The Bayes-optimal vote of independent members whose errors spread evenly over the other classes (Nitzan and Paroush
    1982 for two classes; with log(C - 1) the weight of SAMME, Zhu et al. 2009). a = (hits + 1/2) / (N + 1).
    """
    classes = embedded.shape[2]
    hits = np.array([(member.argmax(axis=1) == labels).sum() for member in embedded])
    accuracy = (hits + 0.5) / (len(labels) + 1)                                  # (M,)
    raw = np.log(accuracy) - np.log1p(-accuracy) + np.log(max(classes - 1, 1))
    weights = np.maximum(raw, LEAST_WEIGHT)
    return Fitted(weights / weights.sum())
