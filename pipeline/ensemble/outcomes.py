"""What a score needs of each row, and nothing more: a number per row instead of a distribution over the classes.

For metrics that are means over rows an outcome is the row's loss (log loss, or minus one for a hit), for macro-F1 the
most probable class. Scores, intervals and leave-one-out work on `(N,)` or `(S, N)` outcomes of S predictions.
"""

import numpy as np
from scipy import sparse

from pipeline.ensemble.contract import Fitted, Method, View
from pipeline.metrics import CLIP, METRICS, Metric


def outcome(probabilities: np.ndarray, labels: np.ndarray, *, metric: Metric) -> np.ndarray:
    """`(n,)` float64 of predictions `(n, C)`."""
    if metric.per_row is None:
        return probabilities.argmax(axis=1).astype(np.float64)
    return sign(metric) * metric.per_row(probabilities, labels)


def method_outcome(method: Method, view: View, fitted: Fitted, *, metric: Metric) -> np.ndarray:
    """`(n,)`: the outcome of what the method says; a linear blend's log loss needs only the true class."""
    if method.linear and metric is METRICS["log_loss"]:
        return -np.log(np.clip(view.true @ fitted.weights, CLIP, 1 - CLIP))
    return outcome(method.combine(view, fitted), view.labels, metric=metric)


def losses(outcomes: np.ndarray, labels: np.ndarray, *, metric: Metric, classes: int) -> np.ndarray:
    """The loss `(S,)` of each of `(S, N)` outcomes, less is better; equal outcomes have equal losses to the bit."""
    if metric.per_row is not None:
        return outcomes.mean(axis=1)
    return resampled_losses(outcomes, labels, np.ones((1, len(labels))), metric=metric, classes=classes)[0]


def score(outcomes: np.ndarray, labels: np.ndarray, *, metric: Metric, classes: int) -> float:
    """The metric of `(N,)` outcomes."""
    return sign(metric) * float(losses(outcomes[None], labels, metric=metric, classes=classes)[0])


def resampled_losses(
    outcomes: np.ndarray, labels: np.ndarray, counts: np.ndarray, *, metric: Metric, classes: int
) -> np.ndarray:
    """The losses `(D, S)` of `(S, N)` outcomes where row i counts `counts (D, N)` times; not every count may be zero.

    Macro-F1 leaves out classes that are neither predicted nor present, as in `metrics.macro_f1`.
    """
    if metric.per_row is not None:
        return counts @ outcomes.T / counts.sum(axis=1, keepdims=True)
    present = _per_class(counts, labels, classes)                                # (D, C)
    drawn = np.empty((len(counts), len(outcomes)))
    for s, predicted in enumerate(outcomes.astype(np.int64)):
        hit = predicted == labels
        hits = _per_class(counts[:, hit], labels[hit], classes)                  # (D, C)
        total = present + _per_class(counts, predicted, classes)
        f1 = np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0)
        drawn[:, s] = sign(metric) * f1.sum(axis=1) / (total > 0).sum(axis=1)
    return drawn


def sign(metric: Metric) -> float:
    """What turns a score into a loss, and back."""
    return -1.0 if metric.greater_is_better else 1.0


def _per_class(counts: np.ndarray, column: np.ndarray, classes: int) -> np.ndarray:
    """Counts `(D, n)` added up by class `(n,)`, `(D, C)`."""
    rows = np.arange(len(column))
    members = sparse.csr_array((np.ones(len(column)), (column, rows)), shape=(classes, len(column)))
    return (members @ counts.T).T
