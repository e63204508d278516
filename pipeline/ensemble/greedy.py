"""Ensemble selection with replacement (Caruana et al. 2004): add what helps the mean most, again and again."""

from collections.abc import Callable

import numpy as np

from pipeline.ensemble.contract import Fitted, Settings
from pipeline.ensemble.simplex import true_class
from pipeline.metrics import CLIP, METRICS, Metric


def fit_greedy(embedded: np.ndarray, labels: np.ndarray, *, settings: Settings) -> Fitted:
    """Weights: how often each member was picked, for the best of all the bags passed on the way.

    Sorted initialisation: members in the order of their own loss, as many from the front as score best together
    (section 2.2 of the paper). Then `settings.greedy_steps` additions with replacement, each the best for the metric.
    Ties go to the earlier member and to the smaller bag.
    """
    values, loss = _objective(embedded, labels, settings.metric)
    counts, best = _sorted_start(values, loss)
    total = np.tensordot(counts, values, axes=1)
    kept = counts.copy()
    for _ in range(settings.greedy_steps):
        losses = _losses_with_each(total, values, loss, counts.sum() + 1)        # (M,)
        pick = int(losses.argmin())
        counts[pick] += 1
        total += values[pick]
        if losses[pick] < best:
            best, kept = losses[pick], counts.copy()
    return Fitted(kept / kept.sum(), note=f"{int(kept.sum())} picks of {np.count_nonzero(kept)} members")


Loss = Callable[[np.ndarray, float], float]


def _objective(embedded: np.ndarray, labels: np.ndarray, metric: Metric) -> tuple[np.ndarray, Loss]:
    """What is summed over a bag, `(M, N)` or `(M, N, C)`, and the loss of a bag's sum and number of picks.

    The log loss needs the true class alone; the other metrics do not mind a factor common to all classes.
    """
    if metric is not METRICS["log_loss"]:
        return embedded, lambda total, picks: metric.loss(total, labels)

    def log_loss(total: np.ndarray, picks: float) -> float:
        return -float(np.log(np.clip(total / picks, CLIP, 1 - CLIP)).mean())

    return np.ascontiguousarray(true_class(embedded, labels).T), log_loss        # (M, N)


def _sorted_start(values: np.ndarray, loss: Loss) -> tuple[np.ndarray, float]:
    """Picks of each member `(M,)` in the best front of the members sorted by their own loss, and its loss."""
    alone = [loss(value, 1) for value in values]
    order = np.argsort(alone, kind="stable")
    total = np.zeros_like(values[0])
    losses = []
    for picks, member in enumerate(order, start=1):
        total += values[member]
        losses.append(loss(total, picks))
    front = int(np.argmin(losses)) + 1
    counts = np.zeros(len(values), dtype=values.dtype)
    counts[order[:front]] = 1
    return counts, losses[front - 1]


def _losses_with_each(total: np.ndarray, values: np.ndarray, loss: Loss, picks: float) -> np.ndarray:
    candidate = np.empty_like(total)
    return np.array([loss(np.add(total, value, out=candidate), picks) for value in values])
