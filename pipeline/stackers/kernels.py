"""Feature maps in which a linear machine is one with the kernel exp(-gamma |x - y|^2)."""

from collections.abc import Callable

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import rbf_kernel

from pipeline.errors import UserError

Map = Callable[[np.ndarray], np.ndarray]    # inputs (m, P) -> features (m, F) float32

EXACT_ROWS = 8000       # the kernel of n rows takes 8 n^2 bytes, and n^3 / 3 multiplications to factor
JITTER = 1e-6           # added to the kernel's diagonal, which is 1, so that equal rows leave it positive definite
PAIRED = 1000           # rows whose pairs the median is taken over


def fit_nystroem(inputs: np.ndarray, *, gamma: float, components: int, seed: int) -> Map:
    """Nystroem's map onto `components` landmarks, drawn from the rows of `inputs` `(n, P)` and at most n.

    Source: Williams and Seeger 2000, Using the Nystroem method to speed up kernel machines.
    """
    mapping = Nystroem(kernel="rbf", gamma=gamma, n_components=min(components, len(inputs)),
                       random_state=seed % 2**32).fit(inputs)
    return lambda rows: mapping.transform(rows).astype(np.float32)


def fit_exact(inputs: np.ndarray, *, gamma: float) -> Map:
    """The exact map: for K = L L' over the rows of `inputs` `(n, P)`, a row is L^-1 k(inputs, row), `(m, n)`.

    A linear machine in it is the kernel machine, by the representer theorem. Raises UserError above 8,000 rows.
    """
    if len(inputs) > EXACT_ROWS:
        raise UserError(f"stackers: kernel exact_rbf takes at most {EXACT_ROWS} rows, and a fold has {len(inputs)}; "
                        "fix: kernel: rbf, its approximation by `components` landmarks")
    anchors = inputs.astype(np.float64)
    kernel = rbf_kernel(anchors, gamma=gamma)                                        # (n, n)
    kernel[np.diag_indices_from(kernel)] += JITTER
    lower = cholesky(kernel, lower=True, overwrite_a=True)

    def mapped(rows: np.ndarray) -> np.ndarray:
        cross = rbf_kernel(anchors, rows.astype(np.float64), gamma=gamma)            # (n, m)
        return solve_triangular(lower, cross, lower=True, overwrite_b=True).T.astype(np.float32)

    return mapped


def median_gamma(inputs: np.ndarray, *, seed: int) -> float:
    """1 / median |x - y|^2 over pairs of at most 1,000 rows of `inputs` `(n, P)`; 1 where the rows are one point.

    The median heuristic; source: Caputo et al. 2002, Appearance-based object recognition using SVMs (kernlab's sigest).
    """
    chosen = np.random.default_rng(seed).permutation(len(inputs))[:PAIRED]
    rows = inputs[chosen].astype(np.float64)                                         # (r, P)
    norms = (rows**2).sum(axis=1)
    squares = (norms[:, None] + norms - 2 * rows @ rows.T)[np.triu_indices(len(rows), 1)]
    median = float(np.median(squares)) if len(squares) else 0.0
    return 1 / median if median > JITTER else 1.0
