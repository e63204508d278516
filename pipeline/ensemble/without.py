"""The ensemble without each member in turn, the other weights kept."""

import numpy as np

from pipeline.ensemble.contract import Fitted, Method, View, drop
from pipeline.ensemble.means import log_linear, logs
from pipeline.ensemble.outcomes import method_outcome, outcome
from pipeline.ensemble.simplex import softmax
from pipeline.metrics import CLIP, METRICS, Metric

NEARLY_ALL = 0.9        # of the weight: without such a member, a sum without its part would be rounding error


def outcomes_without_each(method: Method, view: View, fitted: Fitted, *, metric: Metric) -> np.ndarray:
    """`(m, n)`: outcomes of `combine` on `view.without(i)` with `drop(fitted, i)`, for each place i.

    Raises ValueError for a method without weights on members.
    """
    if fitted.weights is None:
        raise ValueError("this method has no weights on members")
    if method.linear and metric is METRICS["log_loss"]:
        return -np.log(np.clip(view.true @ _weights_without_each(fitted), CLIP, 1 - CLIP)).T
    if method.combine is log_linear and fitted.weights.max() < NEARLY_ALL:
        return _geometric(view, fitted.weights, metric)
    return np.stack([method_outcome(method, view.without(i), drop(fitted, i), metric=metric)
                     for i in range(len(view.members))])


def _weights_without_each(fitted: Fitted) -> np.ndarray:
    """`(m, m)`: column i holds the weights that are left without member i, and zero for it."""
    columns = [np.insert(drop(fitted, i).weights, i, 0.0) for i in range(len(fitted.weights))]   # type: ignore
    return np.stack(columns, axis=1)


def _geometric(view: View, weights: np.ndarray, metric: Metric) -> np.ndarray:
    """One logarithm of each probability serves all: the sum without a member is the sum less its part."""
    outcomes = np.empty((len(weights), len(view)))
    for place, block in view.blocks():
        parts = np.stack([np.float32(weight) * logs(member)
                          for weight, member in zip(weights, block, strict=True)])               # (m, b, C)
        total = parts.sum(axis=0)
        for i, part in enumerate(parts):
            rest = softmax((total - part) / np.float32(1 - weights[i]))
            outcomes[i, place] = outcome(rest, block.labels, metric=metric)
    return outcomes
