"""Rank average: a member's score for a class counts only by its place among that member's out-of-fold scores."""

import numpy as np
from scipy.optimize import brentq

from pipeline.ensemble.contract import Fitted, Settings, equal_weights
from pipeline.ensemble.simplex import class_prior, mixed, softmax

POWERS = (0.0, 50.0)


def ranks(reference: np.ndarray, stack: np.ndarray) -> np.ndarray:
    """Place of each value in its column of `reference` (same member and class), strictly inside (0, 1).

    (below + below or equal + 1) / (2 (N + 1)), counted over the N reference rows; for a reference row itself this is
    the midrank divided by N + 1. The place of a row does not depend on the other rows of `stack`, and strictly
    increasing maps of a column, applied to both, change nothing.
    """
    placed = np.empty(stack.shape, dtype=np.float32)                             # (M, n, C)
    scale = np.float32(1 / (2 * (reference.shape[1] + 1)))
    count = _below_by_counting if np.issubdtype(reference.dtype, np.integer) else _below_by_search
    for m, (known, asked) in enumerate(zip(reference, stack, strict=True)):
        known_columns, asked_columns = np.ascontiguousarray(known.T), np.ascontiguousarray(asked.T)
        twice = np.empty(asked_columns.shape, dtype=np.float32)                  # (C, n)
        for c, (column, values) in enumerate(zip(known_columns, asked_columns, strict=True)):
            twice[c] = count(column, values)
        np.multiply(twice.T + 1, scale, out=placed[m])
    return placed


def codes(stack: np.ndarray) -> np.ndarray:
    """Each column's values numbered in ascending order, equals alike: `(M, N, C)` int32 in [0, N).

    A strictly increasing map of every column, so `ranks` does not mind; what it saves is a sort per fold.
    """
    numbered = np.empty(stack.shape, dtype=np.int32)                             # (M, N, C)
    for m, member in enumerate(stack):
        columns = np.ascontiguousarray(member.T)                                 # (C, N)
        placed = np.zeros(columns.shape, dtype=np.int32)                         # (C, N)
        for values, place in zip(columns, placed, strict=True):
            order = values.argsort()
            ascending = values[order]
            place[order[1:]] = np.cumsum(ascending[1:] != ascending[:-1])
        numbered[m] = placed.T
    return numbered


def fit_power(embedded: np.ndarray, labels: np.ndarray, *, settings: Settings) -> Fitted:
    """Equal weights, the classes' offsets, and the power in [0, 50] with the least log loss.

    Ranks forget how frequent a class is, so class c starts at the logarithm of its prior odds: a rank at the quantile
    1 - prior_c, where a perfect member would begin to say c, scores zero in every class. The log loss of softmax(power
    * score) is convex in the power with slope mean(E[score] - score of the true class), E under the softmax: its root
    is found by Brent's method.
    """
    prior = class_prior(labels, embedded.shape[2])
    fitted = Fitted(equal_weights(len(embedded)), offset=np.log(prior) - np.log1p(-prior))
    scores = _scores(embedded, fitted)                                           # (N, C)
    scores -= scores.max(axis=1, keepdims=True)
    true = float(scores[np.arange(len(labels)), labels].mean(dtype=np.float64))
    odds = np.empty_like(scores)                                                 # (N, C)

    def slope(power: float) -> float:
        np.exp(np.multiply(scores, np.float32(power), out=odds), out=odds)
        expected = np.einsum("nc,nc->n", odds, scores) / odds.sum(axis=1)        # (N,)
        return float(expected.mean(dtype=np.float64)) - true

    low, high = POWERS
    if slope(low) >= 0:
        power = low
    elif slope(high) <= 0:
        power = high
    else:
        power = float(brentq(slope, low, high, xtol=1e-5, rtol=1e-5))
    return Fitted(fitted.weights, power=power, offset=fitted.offset)


def rank_link(embedded: np.ndarray, fitted: Fitted) -> np.ndarray:
    """softmax(power * (logit(mean rank) + offset)) over the classes."""
    return softmax(np.float32(fitted.power) * _scores(embedded, fitted))


def _scores(embedded: np.ndarray, fitted: Fitted) -> np.ndarray:
    mean = mixed(fitted.weights, embedded)                                       # (n, C)
    scores = np.log(mean / (1 - mean))
    return scores if fitted.offset is None else scores + fitted.offset.astype(scores.dtype)


def _below_by_search(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Number of the column below plus number below or equal, `(n,)`."""
    ascending = np.sort(column)
    return np.searchsorted(ascending, values, side="left") + np.searchsorted(ascending, values, side="right")


def _below_by_counting(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The same for codes, without sorting."""
    equal = np.bincount(column, minlength=values.max(initial=0) + 1)
    return (2 * np.cumsum(equal) - equal)[values]
