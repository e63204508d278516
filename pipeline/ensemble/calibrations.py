"""Calibration of finished predictions: a temperature, alone, with intercepts, or with a matrix and intercepts."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from pipeline.ensemble.class_weights import cross_entropy, floored_logs
from pipeline.ensemble.contract import Fitted, Method, Settings, View
from pipeline.ensemble.means import logs
from pipeline.ensemble.simplex import softmax

VECTOR_RIDGE, MATRIX_RIDGE = 10.0, 100.0    # of intercepts alone, and of a matrix with its intercepts
COLDEST = 1e-2
TOLERANCE = 1e-7        # relative decrease of the objective at which the optimiser stops
ITERATIONS = 300


@dataclass(frozen=True)
class Calibration:
    """Parameters from probabilities `(n, C)` and labels `(n,)`, and probabilities from probabilities and parameters.

    `fit` takes `shrinkage` of what is penalised, from 0 to infinity, where the temperature alone is left.
    """

    fit: Callable[..., np.ndarray]
    apply: Callable[[np.ndarray, np.ndarray], np.ndarray]
    simplicity: float                       # what it adds to the method's


def calibrated(method: Method, name: str) -> Method:
    """The method followed by a calibration of `CALIBRATIONS`, fitted on the method's predictions on the rows it saw.

    Weights are the method's own, so one may be dropped; the calibration stays. Raises KeyError for an unknown name.
    """
    calibration = CALIBRATIONS[name]

    def after(inner: Fitted, view: View, settings: Settings) -> Fitted:
        parameters = calibration.fit(method.combine(view, inner), view.labels, shrinkage=settings.shrinkage)
        return replace(inner, model=(inner.model, parameters), gap=None)

    def fit(view: View, *, settings: Settings) -> Fitted:
        return after(method.fit(view, settings=settings), view, settings)

    def combine(view: View, fitted: Fitted) -> np.ndarray:
        model, parameters = fitted.model
        return calibration.apply(method.combine(view, replace(fitted, model=model)), parameters)

    def refit(view: View, fitted: Fitted, left_out: int, *, settings: Settings) -> Fitted:
        assert method.refit is not None
        inner = method.refit(view, replace(fitted, model=fitted.model[0]), left_out, settings=settings)
        return after(inner, view.without(left_out), settings)

    return Method(f"{method.name}+{name}", fit, combine, method.simplicity + calibration.simplicity,
                  refit=None if method.refit is None else refit)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray, *, shrinkage: float = 1.0) -> np.ndarray:
    """1/T `(1,)`, in [0, 100], at which softmax(log p / T) has the least log loss (Guo et al. 2017, section 4.2)."""
    return _fit(probabilities, labels, np.empty((len(labels), 0), dtype=np.float32), 0.0)


def apply_temperature(probabilities: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """softmax(log p / T), `(n, C)` float32."""
    return softmax(np.float32(parameters[0]) * logs(probabilities))


def fit_vector(probabilities: np.ndarray, labels: np.ndarray, *, shrinkage: float = 1.0) -> np.ndarray:
    """1/T and an intercept for each class, `(1 + C,)`: the log losses plus shrinkage VECTOR_RIDGE / 2 |b|^2 are least.

    One T for all classes, where the vector scaling of Guo et al. 2017 (section 4.2) has one for each: rare ones have
    too few rows for their own.
    """
    return _fit(probabilities, labels, np.ones((len(labels), 1), dtype=np.float32), shrinkage * VECTOR_RIDGE)


def apply_vector(probabilities: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """softmax(log p / T + b), `(n, C)` float32."""
    return softmax(np.float32(parameters[0]) * logs(probabilities) + parameters[1:].astype(np.float32))


def fit_dirichlet(probabilities: np.ndarray, labels: np.ndarray, *, shrinkage: float = 1.0) -> np.ndarray:
    """1/T, W `(C, C)` and b `(C,)`, flat: the log losses plus shrinkage MATRIX_RIDGE / 2 (|W|^2 + |b|^2) are least.

    The map of Kull et al. 2019 (NeurIPS, section 3) in its linear form. Their ODIR leaves the diagonal free and
    penalises the rest; here the diagonal is 1/T + W_cc with W_cc penalised too, so an infinite ridge gives the
    temperature alone. The ridge is on standardised logarithms, of nothing below LEAST.
    """
    inputs = floored_logs(probabilities)                                         # (n, C)
    centre = inputs.mean(axis=0, dtype=np.float64)                               # (C,)
    scale = max(float((inputs - centre).std()), 1e-6)
    design = np.hstack([(inputs - centre) / scale, np.ones((len(labels), 1))]).astype(np.float32)
    found = _fit(probabilities, labels, design, shrinkage * MATRIX_RIDGE)
    matrix = found[1:].reshape(design.shape[1], -1)                              # (C + 1, C)
    inner = matrix[:-1] / scale
    return np.concatenate([found[:1], inner.ravel(), matrix[-1] - centre @ inner])


def apply_dirichlet(probabilities: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    """softmax(log p / T + log p W + b), `(n, C)` float32."""
    classes = probabilities.shape[1]
    matrix = parameters[1:-classes].reshape(classes, classes).astype(np.float32)
    scores = np.float32(parameters[0]) * logs(probabilities) + parameters[-classes:].astype(np.float32)
    return softmax(scores + floored_logs(probabilities) @ matrix)


def _fit(probabilities: np.ndarray, labels: np.ndarray, design: np.ndarray, ridge: float) -> np.ndarray:
    """1/T and a matrix `(P, C)`, flat, of scores log p / T + design @ matrix for a design `(n, P)`.

    Convex; L-BFGS starts from the predictions as they are, where the penalty is zero, so the log loss in sample is
    never above theirs.
    """
    classes = probabilities.shape[1]
    if np.isinf(ridge):
        alone = _fit(probabilities, labels, design[:, :0], 0.0)
        return np.concatenate([alone, np.zeros(design.shape[1] * classes)])
    base, columns = logs(probabilities).astype(np.float32), design.T.copy()      # (n, C), (P, n)
    rows = len(base)
    each = np.tile(1 + 0.3 * np.bincount(labels, minlength=classes), len(columns)) + ridge
    scale = 1 / np.sqrt(np.concatenate([[0.1 * rows], each]))                    # by curvature, which grows with rows

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parameters = flat * scale
        matrix = parameters[1:].reshape(-1, classes)
        scores = np.float32(parameters[0]) * base
        if len(matrix):
            scores += design @ matrix.astype(np.float32)
        loss, residuals = cross_entropy(scores, labels)
        slope = np.einsum("nc,nc->n", residuals, base).sum(dtype=np.float64)
        gradient = np.concatenate([[slope], (columns @ residuals).ravel() + ridge * parameters[1:]])
        return (loss + ridge / 2 * float(parameters[1:] @ parameters[1:])) / rows, gradient * scale / rows

    start = np.zeros(1 + design.shape[1] * classes)
    start[0] = 1 / scale[0]
    bounds = [(0, 1 / COLDEST / scale[0])] + [(None, None)] * (len(start) - 1)
    options = {"maxiter": ITERATIONS, "ftol": TOLERANCE, "gtol": 0.0}
    return minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x * scale


CALIBRATIONS = {
    "temperature": Calibration(fit_temperature, apply_temperature, 0.1),
    "vector": Calibration(fit_vector, apply_vector, 0.2),
    "dirichlet": Calibration(fit_dirichlet, apply_dirichlet, 0.3),
}
