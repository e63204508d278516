"""Honest predictions of an ensemble: what is predicted on a fold was fitted without that fold."""

from collections.abc import Iterator

import numpy as np
from sklearn.model_selection import KFold

from pipeline.ensemble.contract import Fitted, Method, Settings, View
from pipeline.ensemble.outcomes import method_outcome
from pipeline.rng import derive


def splits(view: View, folds: np.ndarray) -> Iterator[tuple[View, View, np.ndarray]]:
    """For each fold in ascending order: the other folds, the fold, and the places `(n,)` of its rows in `view`."""
    for fold in np.unique(folds):
        held = np.flatnonzero(folds == fold)
        yield view.at(_as_slice(np.flatnonzero(folds != fold))), view.at(_as_slice(held)), held


def in_sample(method: Method, view: View, *, settings: Settings) -> tuple[Fitted, np.ndarray]:
    """The method fitted on all rows, and its predictions `(N, C)` on the same rows: the optimistic ones."""
    fitted = method.fit(view, settings=settings)
    return fitted, method.combine(view, fitted)


def nested_predictions(method: Method, view: View, *, folds: np.ndarray, settings: Settings) -> np.ndarray:
    """`(N, C)`: each fold combined by a method that was fitted on the other folds, folds `(N,)`.

    The labels of a fold do not reach the predictions on that fold through the ensemble.
    """
    if not method.learns:
        return in_sample(method, view, settings=settings)[1]
    predictions = np.empty((len(view), view.classes), dtype=np.float32)          # (N, C)
    for others, held, rows in splits(view, folds):
        predictions[rows] = method.combine(held, method.fit(others, settings=settings))
    return predictions


def nested_outcome(method: Method, view: View, *, folds: np.ndarray, settings: Settings) -> np.ndarray:
    """The outcome `(N,)` of `nested_predictions`, without making them where the true class is enough."""
    outcomes = np.empty(len(view))
    for others, held, rows in splits(view, folds):
        fitted = method.fit(others, settings=settings)
        outcomes[rows] = method_outcome(method, held, fitted, metric=settings.metric)
    return outcomes


def nested_best_single(view: View, *, folds: np.ndarray, settings: Settings) -> np.ndarray:
    """`(N, C)`: each fold predicted by the member with the least loss on the other folds, the first of equals."""
    predictions = np.empty((len(view), view.classes), dtype=np.float32)          # (N, C)
    for others, held, rows in splits(view, folds):
        best = int(np.argmin([settings.metric.loss(member, others.labels) for member in others]))
        predictions[rows] = next(iter(held.only(np.array([best]))))
    return predictions


def other_folds(clusters: np.ndarray, *, k: int, repeat: int, seed: int) -> np.ndarray:
    """Another assignment `(N,)` of the rows to k folds, at random; rows of one cluster `(N,)`, 0 to G - 1, stay in one.

    Not stratified: where every fold has its share of each class, the others' class frequencies tell the fold's own,
    and methods that use them are flattered (`benchmarks/coverage.py` shows by how much).
    """
    splitter = KFold(k, shuffle=True, random_state=derive(seed, "repeated nested", repeat) % 2**32)
    folds = np.empty(int(clusters.max()) + 1, dtype=np.int64)
    for fold, (_, held) in enumerate(splitter.split(folds)):
        folds[held] = fold
    return folds[clusters]


def _as_slice(rows: np.ndarray) -> slice | np.ndarray:
    """The rows as a slice where they follow each other, so that nothing is copied."""
    return slice(int(rows[0]), int(rows[-1]) + 1) if rows[-1] - rows[0] + 1 == len(rows) else rows
