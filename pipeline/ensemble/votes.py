"""Votes: majority, weighted, and by confidence; ties go by the mean probability."""

import numpy as np

from pipeline.ensemble.contract import Fitted, Settings, View
from pipeline.ensemble.means import weighted_sum
from pipeline.ensemble.simplex import normalised

LEAST_WEIGHT = 1e-6     # of a member that is no better than chance, before normalisation


def vote_link(view: View, fitted: Fitted) -> np.ndarray:
    """(M * weighted votes + weighted mean probability) / (M + 1).

    Each member votes for its most probable class (the first of equals). With equal weights one vote more always beats
    any difference of mean probabilities, because a class with a vote has a mean probability above zero, so the
    difference is below one.
    """
    assert fitted.weights is not None
    tally = normalised(weighted_sum(view, fitted.weights))                       # (n, C)
    rows = np.arange(len(view))
    for weight, top in zip(fitted.weights, view.tops, strict=True):
        tally[rows, top] += len(view.members) * weight
    return normalised(tally)


def soft_count(view: View, fitted: Fitted) -> np.ndarray:
    """Votes that count as much as the voter is sure: weight times the member's probability of its own top class.

    Mixed with the mean probability like a majority vote, so that no class is impossible.
    """
    assert fitted.weights is not None
    tally = normalised(weighted_sum(view, fitted.weights))                       # (n, C)
    rows = np.arange(len(view))
    for weight, top, member in zip(fitted.weights, view.tops, view, strict=True):
        tally[rows, top] += len(view.members) * weight * member[rows, top]
    return normalised(tally)


def fit_log_odds(view: View, *, settings: Settings) -> Fitted:
    """Weights proportional to log(a / (1 - a)) + log(C - 1), a the member's accuracy: zero at chance.

    The Bayes-optimal vote of independent members whose errors spread evenly over the other classes (Nitzan and Paroush
    1982 for two classes; with log(C - 1) the weight of SAMME, Zhu et al. 2009). a = (hits + 1/2) / (N + 1).
    """
    hits = (view.tops == view.labels).sum(axis=1)                                # (m,)
    accuracy = (hits + 0.5) / (len(view) + 1)
    raw = np.log(accuracy) - np.log1p(-accuracy) + np.log(max(view.classes - 1, 1))
    weights = np.maximum(raw, LEAST_WEIGHT)
    return Fitted(weights / weights.sum())
