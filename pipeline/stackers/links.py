"""What each kind of stacker's scores need to become probabilities; for margins a sigmoid and a bias for each class."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_expit, log_softmax

from pipeline.stackers.calibrate import LOG_PROBABILITIES, OFFSETS, SLOPES, Link, fit_sigmoid, softmax

SHRINKAGE = 3.0                                     # of the biases, against the log loss summed over rows
TOLERANCE = 1e-8                                    # relative decrease of the loss at which the optimiser stops


def fit_biases(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Slope and biases `(1 + C,)` at which softmax(slope * scores + biases) has the least penalised log loss.

    Vector scaling with one temperature for all classes: `scores` `(n, C)`, `labels` `(n,)`. Minimises the log loss
    summed over the rows plus 3 |biases|^2 / 2, a normal prior, so a class with few rows keeps a bias near zero.
    The slope is in [0, 100]: scores that mislead give the class shares. Convex; L-BFGS-B.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2.
    """
    values = scores.astype(np.float32)
    rows, n_classes = np.arange(len(labels)), scores.shape[1]

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope, biases = parameters[0], parameters[1:]
        log_probabilities = log_softmax(np.float32(slope) * values + biases.astype(np.float32), axis=1)   # (n, C)
        penalised = SHRINKAGE * 0.5 * float(biases @ biases) - log_probabilities[rows, labels].sum(dtype=np.float64)
        residuals = np.exp(log_probabilities)
        residuals[rows, labels] -= 1
        by_slope = np.einsum("nc,nc->n", residuals, values).sum(dtype=np.float64)
        by_biases = residuals.sum(axis=0, dtype=np.float64) + SHRINKAGE * biases
        return penalised / len(labels), np.concatenate([[by_slope], by_biases]) / len(labels)

    bounds = [SLOPES, *[OFFSETS] * n_classes]
    start = np.concatenate([[1.0], np.zeros(n_classes)])
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": TOLERANCE, "gtol": 0.0}).x


def biased(scores: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """softmax(slope * scores + biases), `(N, C)` float32."""
    return softmax(parameters[0] * scores.astype(np.float64) + parameters[1:], np.ones(1))


def fit_margins(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Parameters `(3 + C,)` of `margins`: the shared sigmoid first, then slope and biases on its logarithms."""
    sigmoid = fit_sigmoid(scores, labels)
    return np.concatenate([sigmoid, fit_biases(_log_sigmoids(scores, sigmoid), labels)])


def margins(scores: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """Probabilities proportional to sigmoid(a * scores + b)^slope * exp(biases), `(N, C)` float32."""
    return biased(_log_sigmoids(scores, parameters[:2]), parameters[2:])


def _log_sigmoids(scores: np.ndarray, sigmoid: np.ndarray) -> np.ndarray:
    return log_expit(sigmoid[0] * scores.astype(np.float64) + sigmoid[1])


LINKS = {"svm": Link(fit_margins, margins), "lightgbm": LOG_PROBABILITIES}    # what each kind scores in
