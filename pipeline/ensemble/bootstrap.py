"""How sure a difference of two scores is: both are scored on the same resampled rows (Efron and Tibshirani 1993)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.metrics import Metric
from pipeline.rng import generator


@dataclass(frozen=True)
class Interval:
    """Loss of a minus loss of b: negative means that a is better, whatever the direction of the metric."""

    difference: float
    low: float
    high: float
    standard_error: float


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, *, metric: Metric, labels: np.ndarray, draws: int, level: float, seed: int
) -> Interval:
    """Percentile interval of the paired difference of `Metric.loss` of two predictions `(N, C)` on the same rows.

    Rows are resampled with replacement `draws` times; one seed gives the same rows to every pair of predictions.
    Raises ValueError for a metric that is neither a mean over rows nor macro-F1.
    """
    difference = metric.loss(a, labels) - metric.loss(b, labels)
    resamples = _resamples(len(labels), draws, seed)
    sign = -1.0 if metric.greater_is_better else 1.0
    if metric.per_row is not None:
        gain = sign * (metric.per_row(a, labels) - metric.per_row(b, labels))    # (N,)
        drawn = np.array([gain[rows].mean() for rows in resamples])              # (draws,)
    elif metric.name == "macro_f1":
        tops, classes = (a.argmax(axis=1), b.argmax(axis=1)), a.shape[1]
        scores = [[_macro_f1(top[rows], labels[rows], classes) for top in tops] for rows in resamples]
        drawn = sign * (np.array(scores) @ (1.0, -1.0))                          # (draws,)
    else:
        raise ValueError(f"no bootstrap for the metric {metric.name}: it has no value per row")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(difference, float(low), float(high), float(drawn.std(ddof=1)))


def _resamples(rows: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    random = generator(seed, "paired bootstrap")
    return (random.integers(0, rows, size=rows, dtype=np.int32) for _ in range(draws))


def _macro_f1(top: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """`metrics.macro_f1` from the most probable classes, which are all that it depends on."""
    hits = np.bincount(labels[top == labels], minlength=classes)
    total = np.bincount(labels, minlength=classes) + np.bincount(top, minlength=classes)
    return float((2 * hits[total > 0] / total[total > 0]).mean())
