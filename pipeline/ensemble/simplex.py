"""Small operations on rows of probabilities that the methods share."""

from collections.abc import Iterator

import numpy as np


def mixed(weights: np.ndarray, stack: np.ndarray) -> np.ndarray:
    """Weighted sum over the members, `(n, C)` in the stack's precision: one pass, no temporary of the stack's size."""
    return np.tensordot(weights.astype(stack.dtype), stack, axes=1)


def normalised(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their sums; a row of zeros becomes uniform."""
    sums = rows.sum(axis=1, keepdims=True)                                       # (n, 1)
    return np.divide(rows, sums, out=np.full_like(rows, 1 / rows.shape[1]), where=sums > 0)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Exponentials of the rows, normalised; shifted by the row's maximum, so nothing overflows."""
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return normalised(exponentials)


def true_class(stack: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each member's probability of the true class, `(N, M)` float64: all that the log loss of a linear blend needs."""
    return stack[:, np.arange(len(labels)), labels].T.astype(np.float64)         # (N, M)


def class_prior(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class frequencies with Laplace's rule, `(C,)`: (n_c + 1) / (n + C), never zero."""
    return (np.bincount(labels, minlength=classes) + 1) / (len(labels) + classes)


def without_each(stack: np.ndarray) -> Iterator[np.ndarray]:
    """The stack without member 0, 1, ..., M - 1 in turn, each `(M - 1, n, C)`.

    One buffer is reused and one member is copied per turn: use each before asking for the next.
    """
    rest = stack[1:].copy()
    yield rest
    for m in range(len(rest)):
        rest[m] = stack[m]
        yield rest
