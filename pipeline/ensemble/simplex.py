"""Small operations on rows of probabilities that the methods share."""

import numpy as np


def normalised(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their sums; a row of zeros becomes uniform."""
    sums = rows.sum(axis=1, keepdims=True)                                       # (n, 1)
    return np.divide(rows, sums, out=np.full_like(rows, 1 / rows.shape[1]), where=sums > 0)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Exponentials of the rows, normalised; shifted by the row's maximum, so nothing overflows."""
    exponentials = scores - scores.max(axis=1, keepdims=True)
    np.exp(exponentials, out=exponentials)
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def true_class(stack: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each member's probability of the true class, `(N, M)` float64."""
    return np.stack([member[np.arange(len(labels)), labels] for member in stack], axis=1).astype(np.float64)


def class_prior(labels: np.ndarray, classes: int) -> np.ndarray:
    """Class frequencies with Laplace's rule, `(C,)`: (n_c + 1) / (n + C), never zero."""
    return (np.bincount(labels, minlength=classes) + 1) / (len(labels) + classes)
