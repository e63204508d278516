"""Multinomial logistic regression on the members' log-probabilities, shrunk towards their geometric mean."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from pipeline.ensemble.class_weights import class_columns, cross_entropy, floored_logs, own_scores, own_slopes
from pipeline.ensemble.contract import Fitted, Settings, View, equal_weights
from pipeline.ensemble.means import weighted_sum
from pipeline.ensemble.simplex import softmax

RIDGE = 100.0           # of the penalty on a coefficient of one class, at shrinkage 1
COMMON = 0.3            # of the penalty on a coefficient that all classes share
TOLERANCE = 1e-5        # relative decrease of the objective at which the optimiser stops
ITERATIONS = 300


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Of log-probabilities, float64: each member's own class `(m, C)`, all classes `(C, C)`, intercepts `(C,)`."""

    own: np.ndarray
    classes: np.ndarray
    intercepts: np.ndarray


def fit_logistic(view: View, *, settings: Settings) -> Fitted:
    """score_c = sum_m (1/m + v_m + E_mc) log p_mc + sum_k D_kc log g_k + b_c, a ridge on v, E, D and b: `Coefficients`.

    g is the geometric mean, which is what infinite shrinkage leaves (of probabilities not below LEAST). A full matrix
    for every member would have m times the coefficients of D, for what mostly says the same. The logarithms
    are centred by class and divided by one deviation. The sum of the rows' log losses plus shrinkage / 2 times
    COMMON |v|^2 + RIDGE (|E|^2 + |D|^2 + |b|^2) is convex; a rare class has less to set against the same ridge, so it
    shrinks more (the ridge as a normal prior: Hastie, Tibshirani and Friedman 2009, 3.4.1 and 18.3.2).
    """
    members, classes = len(view.members), view.classes
    if np.isinf(settings.shrinkage):
        return Fitted(None, model=Coefficients(
            np.full((members, classes), 1 / members), np.zeros((classes, classes)), np.zeros(classes)))
    columns = class_columns(view)                                                # (C, m, n)
    offset = columns.mean(axis=1).T                                              # (n, C): log g
    centre = offset.mean(axis=0, dtype=np.float64)                               # (C,)
    scale = max(float((offset - centre).std()), 1e-6)
    columns -= centre[:, None, None].astype(np.float32)
    columns /= np.float32(scale)
    own, shared = _fit(columns, offset, view.labels, settings.shrinkage)
    return Fitted(None, model=Coefficients(
        1 / members + own / scale, shared[:-1] / scale,
        shared[-1] - (centre @ shared[:-1] + centre * own.sum(axis=0)) / scale))


def logistic_link(view: View, fitted: Fitted) -> np.ndarray:
    """softmax of the scores, `(n, C)`."""
    model: Coefficients = fitted.model
    scores = weighted_sum(view, model.own, floored_logs)                         # (n, C)
    mean = weighted_sum(view, equal_weights(len(view.members)), floored_logs)
    scores += mean @ model.classes.astype(np.float32) + model.intercepts.astype(np.float32)
    return softmax(scores)


def _fit(
    columns: np.ndarray, offset: np.ndarray, labels: np.ndarray, shrinkage: float
) -> tuple[np.ndarray, np.ndarray]:
    """v + E `(m, C)`, and D with b as its last row, `(C + 1, C)`: L-BFGS on all rows, products in float32.

    Each coefficient is scaled by its curvature, which grows with the rows of its class, or ill-conditioned rare classes
    would take most of the steps.
    """
    classes, members, rows = columns.shape
    mean = columns.mean(axis=1)                                                  # (C, n)
    design = np.vstack([mean, np.ones((1, rows), dtype=np.float32)])             # (C + 1, n)
    counts = np.bincount(labels, minlength=classes)
    sizes = members, members * classes, (classes + 1) * classes
    ridge = shrinkage * np.repeat([COMMON, RIDGE, RIDGE], sizes)
    each = np.tile(1 + 0.3 * counts, members + classes + 1)
    scale = 1 / np.sqrt(np.concatenate([np.full(members, 0.1 * rows), each]) + ridge)

    def split(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        common, own, shared = np.split(flat * scale, np.cumsum(sizes)[:2])
        return common[:, None] + own.reshape(members, classes), shared.reshape(classes + 1, classes)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        own, shared = split(flat)
        scores = own_scores(columns, own)                                        # (C, n)
        scores += shared.T.astype(np.float32) @ design
        scores += offset.T
        loss, residuals = cross_entropy(scores.T, labels)
        slopes = own_slopes(columns, residuals.T)                                # (m, C)
        coefficients = flat * scale
        gradient = np.concatenate([slopes.sum(axis=1), slopes.ravel(), (design @ residuals).ravel()])
        gradient += ridge * coefficients
        return (loss + 0.5 * float(ridge @ coefficients**2)) / rows, gradient * scale / rows

    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "ftol": TOLERANCE, "gtol": 0.0}
    return split(minimize(objective, np.zeros(sum(sizes)), jac=True, method="L-BFGS-B", options=options).x)
