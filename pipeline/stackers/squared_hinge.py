"""Linear machines with squared hinge loss, one against the rest, all classes in one preconditioned optimisation."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize

TOLERANCE = 1e-7        # relative decrease of the objective at which the optimiser stops
ITERATIONS = 1000
ACTIVE = 0.1            # share of the rows that count in the preconditioner's curvature


def fit_squared_hinge(inputs: np.ndarray, targets: np.ndarray, *, c: float) -> np.ndarray:
    """Weights `(D + 1, K)` float32, bias last, that minimise |w|^2 / 2 + c * sum max(0, 1 - y f)^2 for each class.

    `inputs` `(n, D)`, `targets` `(n,)` in 0..K-1; y is 1 for the rows of the class and -1 for the others. The bias is
    penalised like a weight, so the objective is that of liblinear's primal L2-loss SVM (Fan et al. 2008, section 2.2,
    eq. 3). L-BFGS on all K problems at once: one matrix product forward and one back for each step, in float32,
    summed in float64. The variables are the weights in the eigenbasis of the inputs' second moments, each over the
    root of its curvature: the same optimum, whatever the inputs' scales and correlations.
    """
    design = np.hstack([inputs, np.ones((len(inputs), 1), inputs.dtype)]).astype(np.float32)          # (n, D + 1)
    curvatures, basis = np.linalg.eigh((design.T @ design).astype(np.float64))
    lengths = 1 / np.sqrt(1 + 2 * c * ACTIVE * np.maximum(curvatures, 0))                             # (D + 1,)
    basis *= lengths                                                                # w = basis @ u
    design = design @ basis.astype(np.float32)
    objective = _objective(design, targets, penalties=lengths[:, None] ** 2, c=c)
    start = np.zeros(design.shape[1] * (int(targets.max()) + 1))
    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "ftol": TOLERANCE, "gtol": 0.0}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    return (basis @ found.x.reshape(len(basis), -1)).astype(np.float32)


def _objective(
    design: np.ndarray, targets: np.ndarray, *, penalties: np.ndarray, c: float
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """The value of the objective and its gradient `(P K,)` at variables `(P K,)`, for a design `(n, P)`."""
    rows = np.arange(len(design))
    transposed = np.ascontiguousarray(design.T)
    slack = np.empty((len(design), int(targets.max()) + 1), np.float32)              # (n, K), reused by every step

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        variables = flat.reshape(-1, slack.shape[1])                                 # (P, K)
        np.matmul(design, variables.astype(np.float32), out=slack)
        slack[rows, targets] *= -1
        np.maximum(np.add(slack, 1, out=slack), 0, out=slack)                        # max(0, 1 - y f)
        loss = c * float(np.einsum("nk,nk->n", slack, slack).sum(dtype=np.float64))
        slack[rows, targets] *= -1
        shrunk = penalties * variables
        gradient = 2 * c * (transposed @ slack).astype(np.float64) + shrunk
        return loss + 0.5 * float((shrunk * variables).sum()), gradient.ravel()

    return objective
