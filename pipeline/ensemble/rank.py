"""Rank average: a member's score for a class counts only by its place among that member's out-of-fold scores."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.optimize import brentq

from pipeline.ensemble.contract import Fitted, Predictions, Settings, View, equal_weights
from pipeline.ensemble.simplex import class_prior, softmax

POWERS = (0.0, 50.0)


def fit_power(view: View, *, settings: Settings) -> Fitted:
    """Equal weights, the classes' offsets, and the power in [0, 50] with the least log loss.

    Ranks forget how frequent a class is, so class c starts at the logarithm of its prior odds: a rank at the quantile
    1 - prior_c, where a perfect member would begin to say c, scores zero in every class. The log loss of softmax(power
    * score) is convex in the power with slope mean(E[score] - score of the true class), E under the softmax: its root
    is found by Brent's method.
    """
    labels = view.labels
    prior = class_prior(labels, view.classes)
    fitted = Fitted(equal_weights(len(view.members)), offset=np.log(prior) - np.log1p(-prior), reference=view)
    scores = _scores(view, fitted)                                               # (n, C)
    scores -= scores.max(axis=1, keepdims=True)
    true = float(scores[np.arange(len(labels)), labels].mean(dtype=np.float64))
    odds = np.empty_like(scores)                                                 # (n, C)

    def slope(power: float) -> float:
        np.exp(np.multiply(scores, np.float32(power), out=odds), out=odds)
        expected = np.einsum("nc,nc->n", odds, scores) / odds.sum(axis=1)        # (n,)
        return float(expected.mean(dtype=np.float64)) - true

    low, high = POWERS
    if slope(low) >= 0:
        power = low
    elif slope(high) <= 0:
        power = high
    else:
        power = float(brentq(slope, low, high, xtol=1e-5, rtol=1e-5))
    return Fitted(fitted.weights, power=power, offset=fitted.offset, reference=view)


def rank_link(view: View, fitted: Fitted) -> np.ndarray:
    """softmax(power * (logit(mean rank) + offset)) over the classes."""
    return softmax(np.float32(fitted.power) * _scores(view, fitted))


def mean_ranks(view: View, reference: View, weights: np.ndarray) -> np.ndarray:
    """Weighted mean over the members of each value's place in its column of `reference`, `(n, C)`, in (0, 1).

    The place is (below + below or equal + 1) / (2 (R + 1)), counted over the R reference rows of the same member and
    class; for a reference row itself this is the midrank divided by R + 1. It does not depend on the other rows of
    `view`, and strictly increasing maps of a column, applied to both, change nothing.
    """
    if view.predictions is reference.predictions:
        whole = _ranks_of_all(reference, weights)                                # (C, N)
        return whole[:, view.rows].T.copy()
    return _by_search(view, reference, weights).T.copy()


def codes(predictions: Predictions) -> np.ndarray:
    """Each member's values of a class numbered in ascending order, equals alike: `(M, C, N)` int32 in [0, N).

    A strictly increasing map of every column, so ranks do not mind; what it saves is a sort per set of reference rows.
    """
    if "codes" not in predictions.memory:
        members, rows, classes = predictions.stack.shape
        numbered = np.zeros((members, classes, rows), dtype=np.int32)            # (M, C, N)
        row_numbers = np.arange(rows, dtype=np.uint64)

        def number(m: int) -> None:
            # The bits of floats that are not negative sort as their values; + 0 makes a negative zero a positive one.
            bits = np.add(predictions.stack[m].T, np.float32(0), order="C").view(np.uint32)              # (C, N)
            for column, out in zip(bits, numbered[m], strict=True):
                keyed = np.sort(column.astype(np.uint64) << np.uint64(32) | row_numbers)
                order, values = (keyed & np.uint64(0xFFFFFFFF)).astype(np.int64), keyed >> np.uint64(32)
                out[order[1:]] = np.cumsum(values[1:] != values[:-1])

        _in_threads(number, range(members), predictions.threads)
        predictions.memory["codes"] = numbered
    return predictions.memory["codes"]


def _ranks_of_all(reference: View, weights: np.ndarray) -> np.ndarray:
    """`mean_ranks` of all rows of the predictions, `(C, N)` float32; the last is kept: `combine` follows `fit`."""
    predictions, rows_of = reference.predictions, reference.rows
    name = repr(rows_of).encode() if isinstance(rows_of, slice) else rows_of.tobytes()
    key = (name, reference.members.tobytes(), weights.tobytes())
    if predictions.memory.get("ranks", (None,))[0] != key:
        numbered = codes(predictions)                                            # (M, C, N)
        _, classes, rows = numbered.shape
        places = np.empty((classes, rows), dtype=np.float32)                     # (C, N)

        def place(c: int) -> None:
            total = np.zeros(rows)
            for weight, m in zip(weights, reference.members, strict=True):
                column = numbered[m, c]
                equal = np.bincount(column[rows_of], minlength=rows)
                total += weight * (2 * np.cumsum(equal) - equal)[column]
            places[c] = (total + 1) / (2 * (len(reference) + 1))

        _in_threads(place, range(classes), predictions.threads)
        predictions.memory["ranks"] = key, places
    return predictions.memory["ranks"][1]


def _by_search(view: View, reference: View, weights: np.ndarray) -> np.ndarray:
    """`mean_ranks` of rows of other predictions (the test images), `(C, n)` float32."""
    total = np.zeros((view.classes, len(view)))                                  # (C, n)
    for weight, known, asked in zip(weights, reference, view, strict=True):
        ascending = np.sort(np.ascontiguousarray(known.T), axis=1)               # (C, R)
        for c, values in enumerate(np.ascontiguousarray(asked.T)):
            total[c] += weight * (np.searchsorted(ascending[c], values, side="left")
                                  + np.searchsorted(ascending[c], values, side="right"))
    return ((total + 1) / (2 * (len(reference) + 1))).astype(np.float32)


def _scores(view: View, fitted: Fitted) -> np.ndarray:
    assert fitted.reference is not None
    assert fitted.weights is not None
    mean = mean_ranks(view, fitted.reference, fitted.weights)                    # (n, C)
    scores = np.log(mean / (1 - mean))
    return scores if fitted.offset is None else scores + fitted.offset.astype(scores.dtype)


def _in_threads(work: Callable[[int], None], items: range, threads: int) -> None:
    """Sorting and counting let go of the interpreter, so columns can be worked on side by side."""
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, items))
