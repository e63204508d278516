"""From a stacker's scores to honest probabilities, by a link fitted on rows that the stacker did not see."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit, log_softmax
from scipy.special import softmax as _softmax

from pipeline.cells import Cell

COLDEST, HOTTEST = 1e-3, 1e3
SLOPES, OFFSETS = (0.0, 100.0), (-50.0, 50.0)


@dataclass(frozen=True)
class Link:
    """How scores `(N, C)` become probabilities `(N, C)`: parameters fitted on scores and labels `(N,)`, and applied."""

    fit: Callable[[np.ndarray, np.ndarray], np.ndarray]
    apply: Callable[[np.ndarray, np.ndarray], np.ndarray]


def fit_temperature(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The temperature `(1,)`, in [0.001, 1000], at which softmax(scores / temperature) has the least log loss.

    The loss is convex in 1 / temperature, so the one minimum is found by a bounded search over the logarithm. Scores
    that mislead give the upper bound: nearly uniform probabilities.
    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, section 4.2.
    """
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(scores * np.float32(np.exp(-log_temperature)), axis=1)[rows, labels].mean())

    bounds = (float(np.log(COLDEST)), float(np.log(HOTTEST)))
    return np.exp([minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-4}).x])


def softmax(scores: np.ndarray, temperature: np.ndarray) -> np.ndarray:
    """Probabilities `(N, C)` float32 of scores over a temperature."""
    return _softmax(scores.astype(np.float64) / temperature, axis=1).astype(np.float32)


def fit_sigmoid(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Slope and offset `(2,)`, shared by the classes, at which `sigmoids` has the least log loss (L-BFGS-B).

    Platt's sigmoid for the one-vs-rest margins of a support vector machine; the classes share it, since rare ones have
    too few rows for their own. The slope is not negative: scores that mislead give nearly uniform probabilities.
    Source: Platt 1999; normalised over the classes as in Zadrozny and Elkan 2002.
    """
    values = scores.astype(np.float64)
    rows = np.arange(len(labels))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        inner = parameters[0] * values + parameters[1]                               # (N, C)
        log_probabilities = log_softmax(log_expit(inner), axis=1)
        slopes = np.exp(log_probabilities)                                           # by the sigmoids' logarithms
        slopes[rows, labels] -= 1
        slopes *= expit(-inner) / len(labels)                                        # by the inner values
        return -float(log_probabilities[rows, labels].mean()), np.array([(slopes * values).sum(), slopes.sum()])

    return minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[SLOPES, OFFSETS]).x


def sigmoids(scores: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """sigmoid(slope * scores + offset), normalised over the classes, `(N, C)` float32."""
    inner = parameters[0] * scores.astype(np.float64) + parameters[1]
    return _softmax(log_expit(inner), axis=1).astype(np.float32)


LOG_PROBABILITIES = Link(fit_temperature, softmax)


def calibrated(
    scores: list[tuple[np.ndarray, np.ndarray]], cells: list[Cell], labels: np.ndarray, folds: np.ndarray, *, link: Link
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of held and test rows per cell -> out-of-fold (N, C) and test (T, C) probabilities.

    The link of a fold's rows is fitted on the other folds' rows (same repeat), the test rows' on all of them.
    """
    n_test, n_classes = scores[0][1].shape
    oof, test = np.zeros((len(labels), n_classes)), np.zeros((n_test, n_classes))
    for repeat, assignment in enumerate(folds):
        held_scores = np.empty((len(labels), n_classes))                                             # (N, C)
        mine = [(cell, *scores[cell.index]) for cell in cells if cell.repeat == repeat]
        for cell, held, _ in mine:
            held_scores[cell.held_rows] = held
        overall = link.fit(held_scores, labels)
        for cell, held, unseen in mine:
            others = assignment != cell.fold
            parameters = link.fit(held_scores[others], labels[others])
            oof[cell.held_rows] += hedged(link.apply(held, parameters), int(others.sum())) / len(folds)
            test += hedged(link.apply(unseen, overall), len(labels)) / len(cells)
    return oof, test


def hedged(probabilities: np.ndarray, rows: int) -> np.ndarray:
    """`(N, C)` mixed with one uniform row among `rows`: what was calibrated on n rows claims no 1 - 1e-15.

    The weight of the uniform answer is 1 / (n + 1), Laplace's rule for an event that n rows did not show, so no
    probability is below 1 / ((n + 1) C) and no single mistake costs more than log((n + 1) C) nats.
    """
    return (rows * probabilities + 1 / probabilities.shape[1]) / (rows + 1)
