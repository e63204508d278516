"""From a stacker's scores to honest probabilities: softmax at a temperature fitted on rows it did not see."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.special import softmax as _softmax

COLDEST, HOTTEST = 1e-3, 1e3


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> float:
    """The temperature, in [0.001, 1000], at which softmax(scores / temperature) has the least log loss.

    `scores` `(N, C)`, `labels` `(N,)`. The loss is convex in 1 / temperature, so the one minimum is found by a
    bounded search over the logarithm. Scores that mislead give the upper bound: nearly uniform probabilities.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2.
    """
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(scores * np.float32(np.exp(-log_temperature)), axis=1)[rows, labels].mean())

    bounds = (float(np.log(COLDEST)), float(np.log(HOTTEST)))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x))


def softmax(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities `(N, C)` float32 of scores over a temperature."""
    return _softmax(scores.astype(np.float64) / temperature, axis=1).astype(np.float32)


def hedged(probabilities: np.ndarray, rows: int) -> np.ndarray:
    """`(N, C)` mixed with one uniform row among `rows`: what was calibrated on n rows claims no 1 - 1e-15.

    The weight of the uniform answer is 1 / (n + 1), Laplace's rule for an event that n rows did not show, so no
    probability is below 1 / ((n + 1) C) and no single mistake costs more than log((n + 1) C) nats.
    """
    return (rows * probabilities + 1 / probabilities.shape[1]) / (rows + 1)
