"""Weights of the members for each class: a log-linear pool whose weights are shrunk towards those common to all."""

import numpy as np
from scipy.optimize import minimize

from pipeline.ensemble.contract import Fitted, Settings, View
from pipeline.ensemble.means import weighted_sum
from pipeline.ensemble.simplex import softmax

PSEUDO_ROWS = 10.0      # that the weights shrunk to are worth to each class, at shrinkage 1
LEAST = 1e-6            # a member's probabilities below say no more: no few certain rows rule the fit
TOLERANCE = 1e-6        # relative decrease of the objective at which the optimiser stops
ITERATIONS = 200


def fit_class_weights(view: View, *, settings: Settings) -> Fitted:
    """Weights `(m, C)`, positive, that sum to one over the members for each class, and minimise a convex objective.

    p(c) ~ exp(sum_m w_mc log p_mc), a log-linear pool (Genest and Zidek 1986, Statistical Science 1(1), section 3). To
    the rows' log losses each class adds k KL(u || w_c), k = PSEUDO_ROWS * shrinkage, u the `common_weights`: the
    Dirichlet prior with k pseudo-observations spread like u (Gelman et al. 2013, Bayesian Data Analysis, section 3.4).
    What a class's rows say grows with their number and the prior does not, so rare classes keep nearly u, and all
    do so exactly at infinite shrinkage.
    """
    columns = class_columns(view)
    common = _fit(columns, view.labels, np.full(len(view.members), 1 / len(view.members)), PSEUDO_ROWS, tied=True)
    pseudo_rows = PSEUDO_ROWS * settings.shrinkage
    if np.isinf(pseudo_rows):
        return Fitted(np.repeat(common, view.classes, axis=1))
    return Fitted(_fit(columns, view.labels, common[:, 0], pseudo_rows, tied=False))


def common_weights(view: View) -> np.ndarray:
    """Weights `(m,)` of the log-linear pool, the same for all classes; PSEUDO_ROWS keep them from zero."""
    equal = np.full(len(view.members), 1 / len(view.members))
    return _fit(class_columns(view), view.labels, equal, PSEUDO_ROWS, tied=True)[:, 0]


def class_weights_link(view: View, fitted: Fitted) -> np.ndarray:
    """The log-linear pool with weights for each class, `(n, C)`."""
    return softmax(weighted_sum(view, fitted.weights, floored_logs))


def floored_logs(probabilities: np.ndarray) -> np.ndarray:
    """Natural logarithms, of nothing below LEAST."""
    return np.log(np.maximum(probabilities, probabilities.dtype.type(LEAST)))


def class_columns(view: View) -> np.ndarray:
    """The members' `floored_logs`, one matrix for each class: `(C, m, n)` float32."""
    columns = np.empty((view.classes, len(view.members), len(view)), dtype=np.float32)
    for m, member in enumerate(view):
        columns[:, m] = floored_logs(member).T
    return columns


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of -log softmax(scores)[label] over the rows, and its gradient by the scores, `(n, C)`, in their place."""
    rows = np.arange(len(labels))
    scores -= scores.max(axis=1, keepdims=True)
    true = scores[rows, labels].sum(dtype=np.float64)
    np.exp(scores, out=scores)
    totals = scores.sum(axis=1, keepdims=True)                                   # (n, 1)
    scores /= totals
    scores[rows, labels] -= 1
    return float(np.log(totals).sum(dtype=np.float64) - true), scores


def _fit(columns: np.ndarray, labels: np.ndarray, centre: np.ndarray, pseudo_rows: float, *, tied: bool) -> np.ndarray:
    """Weights `(m, C)`, or `(m, 1)` where the classes share them: softmax over the members of log centre + logits.

    The objective is convex in the weights and infinite at the simplex's faces, so L-BFGS on the logits, which bound
    nothing, ends at its only minimum. Logits are scaled by their class's curvature, which grows with its rows.
    """
    classes, members, rows = columns.shape
    counts = np.array([rows]) if tied else np.bincount(labels, minlength=classes)
    scale = 1 / np.sqrt(1 + counts + pseudo_rows)                                # (1,) or (C,)
    target = centre[:, None]                                                     # (m, 1)

    def weights_of(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        logits = flat.reshape(members, -1) * scale
        odds = target * np.exp(logits - logits.max(axis=0))
        totals = odds.sum(axis=0)
        return odds / totals, logits, np.log(totals) + logits.max(axis=0)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, logits, log_totals = weights_of(flat)
        loss, residuals = cross_entropy(own_scores(columns, np.broadcast_to(weights, (members, classes))).T, labels)
        slopes = own_slopes(columns, residuals.T)                                # (m, C)
        slopes = slopes.sum(axis=1, keepdims=True) if tied else slopes
        loss += pseudo_rows * float((log_totals - (target * logits).sum(axis=0)).sum())
        gradient = weights * (slopes - (weights * slopes).sum(axis=0)) + pseudo_rows * (weights - target)
        return loss / rows, (gradient * scale).ravel() / rows

    options = {"maxiter": ITERATIONS, "ftol": TOLERANCE, "gtol": 0.0}
    start = np.zeros(members * len(scale))
    return weights_of(minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x)[0]


def own_scores(columns: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_m weights_mc columns_cm for each class, `(C, n)` float32, for weights `(m, C)`."""
    scores = np.empty((columns.shape[0], columns.shape[2]), dtype=np.float32)    # (C, n)
    for column, weight, score in zip(columns, weights.T.astype(np.float32), scores, strict=True):
        np.matmul(weight, column, out=score)
    return scores


def own_slopes(columns: np.ndarray, residuals: np.ndarray) -> np.ndarray:
    """The gradient `(m, C)` by the weights of `own_scores` from that by the scores, `(C, n)`."""
    return np.stack([column @ part for column, part in zip(columns, residuals, strict=True)], axis=1).astype(np.float64)
