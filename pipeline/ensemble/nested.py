"""Honest predictions of an ensemble: what is predicted on a fold was fitted without that fold."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.ensemble.contract import Fitted, Method, Settings
from pipeline.metrics import Metric


def nested_predictions(
    method: Method, stack: np.ndarray, *, labels: np.ndarray, folds: np.ndarray, settings: Settings
) -> np.ndarray:
    """`(N, C)`: each fold combined by a method that was embedded and fitted on the other folds.

    `stack (M, N, C)` holds out-of-fold predictions, `labels (N,)` class indices, `folds (N,)` the fold of each row. The
    labels of a fold do not reach the predictions on that fold through the ensemble.
    """
    predictions = np.empty(stack.shape[1:], dtype=stack.dtype)                   # (N, C)
    for fold in embedded_folds(method, stack, labels=labels, folds=folds):
        fitted = method.fit(fold.fit, fold.labels, settings=settings)
        predictions[fold.rows] = method.combine(fold.apply, fitted)
    return predictions


def in_sample_predictions(
    method: Method, stack: np.ndarray, *, labels: np.ndarray, settings: Settings
) -> tuple[Fitted, np.ndarray]:
    """The method fitted on all rows, and its predictions `(N, C)` on the same rows: the optimistic ones."""
    prepared = method.prepare(stack)
    embedded = method.embed(prepared, prepared)
    fitted = method.fit(embedded, labels, settings=settings)
    return fitted, method.combine(embedded, fitted)


def nested_best_single(stack: np.ndarray, labels: np.ndarray, *, folds: np.ndarray, metric: Metric) -> np.ndarray:
    """`(N, C)`: each fold predicted by the member with the least loss on the other folds, the first of equals."""
    predictions = np.empty(stack.shape[1:], dtype=stack.dtype)                   # (N, C)
    for fold in np.unique(folds):
        others = folds != fold
        losses = [metric.loss(member[others], labels[others]) for member in stack]
        predictions[~others] = stack[int(np.argmin(losses)), ~others]
    return predictions


@dataclass(frozen=True, eq=False)
class EmbeddedFold:
    """One fold's view of the members: `fit` and `apply` are embedded with the other folds as the reference."""

    fit: np.ndarray         # (M, N - n, C) the other folds
    labels: np.ndarray      # (N - n,) of the other folds
    apply: np.ndarray       # (M, n, C) this fold
    rows: np.ndarray        # (n,) positions of this fold's rows


def embedded_folds(
    method: Method, stack: np.ndarray, *, labels: np.ndarray, folds: np.ndarray
) -> Iterator[EmbeddedFold]:
    """The folds in ascending order; embedding is member-wise, so a leave-one-out drops members from the same view."""
    prepared = method.prepare(stack)
    for fold in np.unique(folds):
        others = folds != fold
        reference, asked = prepared[:, others], prepared[:, ~others]
        yield EmbeddedFold(
            method.embed(reference, reference), labels[others], method.embed(reference, asked), np.flatnonzero(~others)
        )
