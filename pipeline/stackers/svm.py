"""Support vector machine: one against the rest with squared hinge loss, all classes in one optimisation."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from sklearn.kernel_approximation import Nystroem
from threadpoolctl import threadpool_limits

from pipeline.config.stacker import SvmConfig
from pipeline.stackers.projection import fit_projection, spread_scores

TOLERANCE = 1e-7        # relative decrease of the objective at which the optimiser stops
ITERATIONS = 1000


def fit(
    features: np.ndarray, labels: np.ndarray, *, n_classes: int, config: SvmConfig, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Decision values of a linear SVM, or of an RBF one through Nystroem's landmarks; see registry.load.

    `features` `(n, D)`, `labels` `(n,)` in 0..n_classes-1; scores `(m, C)` float32.
    """
    with threadpool_limits(1):
        present, targets = np.unique(labels, return_inverse=True)
        project = fit_projection(features, pca=config.pca)
        inputs = project(features)                                                   # (n, P)
        kernel = _landmarks(inputs, config, seed) if config.kernel == "rbf" else None
        if kernel is not None:
            inputs = kernel(inputs)                                                  # (n, components)
        weights = fit_squared_hinge(inputs, targets, c=config.c)                     # (P + 1, classes present)

    def predict(rows: np.ndarray) -> np.ndarray:
        with threadpool_limits(1):
            inputs = project(rows)
            if kernel is not None:
                inputs = kernel(inputs)
            return spread_scores(inputs @ weights[:-1] + weights[-1], present, n_classes=n_classes)

    return predict


def fit_squared_hinge(inputs: np.ndarray, targets: np.ndarray, *, c: float) -> np.ndarray:
    """Weights `(D + 1, K)` float32, bias last, that minimise |w|^2 / 2 + c * sum max(0, 1 - y f)^2 for each class.

    y is 1 for the rows of the class and -1 for the others. The bias is penalised like a weight, so the objective is
    that of liblinear's primal L2-loss SVM (Fan et al. 2008, section 2.2, eq. 3). L-BFGS on all K problems at once:
    one matrix product forward and one back for each step, in float32, summed in float64.
    """
    rows = np.arange(len(inputs))
    n_classes = int(targets.max()) + 1
    design = np.hstack([inputs, np.ones((len(inputs), 1), np.float32)]).astype(np.float32)    # (n, D + 1)
    transposed = np.ascontiguousarray(design.T)
    slack = np.empty((len(inputs), n_classes), np.float32)                           # (n, K), reused by every step

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        np.matmul(design, flat.reshape(-1, n_classes).astype(np.float32), out=slack)
        slack[rows, targets] *= -1
        np.maximum(np.add(slack, 1, out=slack), 0, out=slack)                        # max(0, 1 - y f)
        loss = c * float(np.einsum("nk,nk->n", slack, slack).sum(dtype=np.float64))
        slack[rows, targets] *= -1
        gradient = 2 * c * (transposed @ slack).astype(np.float64).ravel() + flat
        return loss + 0.5 * float(flat @ flat), gradient

    start = np.zeros(design.shape[1] * n_classes)
    options = {"maxiter": ITERATIONS, "maxfun": 2 * ITERATIONS, "ftol": TOLERANCE, "gtol": 0.0}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(-1, n_classes).astype(np.float32)


def _landmarks(inputs: np.ndarray, config: SvmConfig, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Nystroem's feature map of the kernel exp(-gamma |x - y|^2)."""
    gamma = 1 / inputs.shape[1] if config.gamma is None else config.gamma
    mapping = Nystroem(kernel="rbf", gamma=gamma, n_components=min(config.components, len(inputs)),
                       random_state=seed % 2**32).fit(inputs)
    return lambda rows: mapping.transform(rows).astype(np.float32)
