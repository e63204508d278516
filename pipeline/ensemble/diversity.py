"""How differently the members err."""

import numpy as np


def error_correlation(stack: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Pearson's correlation of the members' errors 1 - p(true class) over the rows, `(M, M)` in [-1, 1].

    One on the diagonal; a member whose error is the same in every row has correlation zero with the others.
    """
    errors = 1 - stack[:, np.arange(len(labels)), labels].astype(np.float64)     # (M, N)
    errors -= errors.mean(axis=1, keepdims=True)
    norms = np.sqrt((errors**2).sum(axis=1, keepdims=True))                      # (M, 1)
    errors = np.divide(errors, norms, out=np.zeros_like(errors), where=norms > 0)
    correlation = np.clip(errors @ errors.T, -1, 1)
    np.fill_diagonal(correlation, 1)
    return correlation


def disagreement(stack: np.ndarray) -> np.ndarray:
    """Share of rows on which two members' most probable classes differ, `(M, M)` in [0, 1], zero on the diagonal."""
    tops = stack.argmax(axis=2)                                                  # (M, N)
    return np.array([(tops != top).mean(axis=1) for top in tops])
