"""Arithmetic and geometric mean of the members, and the linear link that weighted blends share."""

import numpy as np

from pipeline.ensemble.contract import Fitted, Settings, equal_weights
from pipeline.ensemble.simplex import mixed, normalised, softmax
from pipeline.metrics import CLIP


def fit_equal(embedded: np.ndarray, labels: np.ndarray, *, settings: Settings) -> Fitted:
    """Equal weights; the labels are not looked at."""
    return Fitted(equal_weights(len(embedded)))


def linear(embedded: np.ndarray, fitted: Fitted) -> np.ndarray:
    """Weighted arithmetic mean of probabilities: minimises the weighted sum of KL(member || result)."""
    return normalised(mixed(fitted.weights, embedded))


def logs(reference: np.ndarray, stack: np.ndarray) -> np.ndarray:
    """Natural logarithms of the probabilities, clipped below at 1e-15: a zero is strong evidence, not a veto."""
    return np.log(np.maximum(stack, stack.dtype.type(CLIP)))


def log_linear(embedded: np.ndarray, fitted: Fitted) -> np.ndarray:
    """Weighted geometric mean, normalised: minimises the weighted sum of KL(result || member).

    Its log loss is never above the weighted mean of the members' log losses (of unclipped members), because the sum of
    a geometric mean over the classes is at most one (Hinton 2002, products of experts).
    """
    return softmax(mixed(fitted.weights, embedded))
