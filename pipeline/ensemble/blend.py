"""The convex blend with the least log loss, exact: sequential quadratic programming on the true-class matrix."""

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from pipeline.ensemble.contract import Fitted, Settings, View

GAP = 1e-9              # nats: where the search stops
ITERATIONS = 100
PROXIMAL = 1e-9         # share of the largest curvature: keeps the model strictly convex for duplicated members


def fit_blend(view: View, *, settings: Settings) -> Fitted:
    """Weights on the simplex that minimise the log loss of the blend, whatever the metric, and their optimality gap."""
    weights, gap = optimal_weights(view.true)
    return Fitted(weights, gap=gap)


def refit_blend(view: View, fitted: Fitted, left_out: int, *, settings: Settings) -> Fitted:
    """`fit_blend` without one member, starting from the optimum with all; a member without weight changes nothing."""
    assert fitted.weights is not None
    rest = np.delete(fitted.weights, left_out)
    if fitted.weights[left_out] == 0:
        return Fitted(rest, gap=fitted.gap)
    free = np.arange(len(fitted.weights)) != left_out
    start = np.where(free, fitted.weights, 0) + free * fitted.weights[left_out] / free.sum()
    weights, gap = optimal_weights(view.true, start=start / start.sum(), free=free)
    return Fitted(weights[free], gap=gap)


def optimal_weights(
    true: np.ndarray, *, start: np.ndarray | None = None, free: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Minimises f(w) = -mean(log(P w)) over the simplex, P the `(N, M)` probabilities of the true class, all positive.

    Since f(t w) = f(w) - log t, the minimiser of f(w) + sum(w) over w >= 0 lies on the simplex, so each quadratic model
    is a non-negative least-squares problem in M unknowns (mixsqp: Kim, Carbonetto, Stephens and Anitescu 2020,
    J. Comput. Graph. Stat. 29(2)). Returns `(M,)` weights and their `optimality_gap`. Members that are not `free`
    `(M,)` bool have no weight, and none in `start`.
    """
    free = np.ones(true.shape[1], dtype=bool) if free is None else free
    weights = free / free.sum() if start is None else start
    for _ in range(ITERATIONS):
        blend = true @ weights                                                   # (N,)
        ratios = true / blend[:, None]                                           # (N, M): P_m / (P w)
        gap = _gap(ratios, free)
        if gap <= GAP:
            return weights, gap
        target = _model_minimum(ratios, weights, free)
        moved = _line_search(true, weights, target)
        if moved is None:       # the log loss is flat to rounding around its minimum; the gap still has a slope
            if _gap(true / (true @ target)[:, None], free) >= gap:
                return weights, gap
            moved = target
        weights = moved
    return weights, _gap(true / (true @ weights)[:, None], free)


def optimality_gap(true: np.ndarray, weights: np.ndarray) -> float:
    """max_m mean(P_m / (P w)) - 1 >= f(w) - min f: zero exactly at the optimum (Cover 1984, IEEE Trans. IT 30(2)).

    For any v on the simplex f(w) - f(v) = mean(log(P v / P w)) <= log(mean(P v / P w)) by Jensen's inequality; that
    mean is linear in v, so it is largest at a vertex; and log(x) <= x - 1. At the optimum these are the conditions of
    Karush, Kuhn and Tucker (Boyd and Vandenberghe, Convex Optimization, 5.5.3): the mean ratio is one for every member
    with weight and at most one for the others.
    """
    return _gap(true / (true @ weights)[:, None], np.ones(len(weights), dtype=bool))


def _gap(ratios: np.ndarray, free: np.ndarray) -> float:
    return max(float(ratios.mean(axis=0)[free].max()) - 1, 0.0)


def _model_minimum(ratios: np.ndarray, weights: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Minimum over v >= 0 of the second-order model of f(v) + sum(v) at w, `(M,)`, scaled to the simplex.

    With gradient 1 - a, a = mean of the ratios, and Hessian H = ratios' ratios / N, it is
    v'Hv/2 - v'(Hw + a - 1) up to a constant.
    """
    curvature = ratios.T @ ratios / len(ratios)                                  # (M, M)
    curvature.flat[:: len(weights) + 1] += PROXIMAL * curvature.diagonal()[free].max()
    linear = (curvature @ weights + ratios.mean(axis=0) - 1)[free]
    root = cholesky(curvature[np.ix_(free, free)])                               # upper: H = root' root
    minimum = np.zeros(len(weights))
    minimum[free], _ = nnls(root, solve_triangular(root, linear, trans="T"))
    return minimum / minimum.sum()


def _line_search(true: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """The first of 1, 1/2, 1/4, ... of the way to the target that lowers the log loss, or None at rounding error."""
    start, end = true @ weights, true @ target                                   # (N,)
    before = np.log(start).mean()
    share = 1.0
    while share > 1e-10:
        if np.log(start + share * (end - start)).mean() > before:
            return weights + share * (target - weights)
        share /= 2
    return None
