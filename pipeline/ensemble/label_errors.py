"""Rows whose given label is probably wrong, by confident learning over out-of-fold probabilities."""

from dataclasses import dataclass

import numpy as np

ROUNDING = 1e-6         # a class whose rows all have one probability reaches its mean


@dataclass(frozen=True)
class Candidate:
    """A row whose label is doubted."""

    row: int
    given: int              # its label
    suggested: int          # the class that the probabilities are confident of
    p_given: float
    p_suggested: float
    margin: float           # p(given) - p(most probable other class), in [-1, 0]: the lower, the more doubtful


def label_error_candidates(probabilities: np.ndarray, labels: np.ndarray) -> list[Candidate]:
    """Rows that count off the diagonal of the confident joint and whose label is not the most probable class.

    The most doubtful first, by normalised margin; ties in the order of the rows. A row is listed only where another
    class reaches its threshold, so the list is precise rather than complete. `probabilities (N, C)` must come from
    networks that did not see the row's label. Northcutt, Jiang and Chuang 2021, Confident learning (JAIR 70), section
    3.2: the off-diagonals of the confident joint, ranked by normalised margin.
    """
    suggested = confident_class(probabilities, labels)                           # (N,)
    doubted = (suggested >= 0) & (suggested != labels) & (probabilities.argmax(axis=1) != labels)
    rows = np.flatnonzero(doubted)
    rest = probabilities[rows].astype(np.float64)                                # (n, C)
    own = np.arange(len(rows))
    p_given, p_suggested = rest[own, labels[rows]], rest[own, suggested[rows]]
    rest[own, labels[rows]] = -np.inf
    margins = p_given - rest.max(axis=1)
    return [
        Candidate(int(rows[i]), int(labels[rows[i]]), int(suggested[rows[i]]), float(p_given[i]),
                  float(p_suggested[i]), float(margins[i]))
        for i in np.argsort(margins, kind="stable")
    ]


def confident_class(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The most probable of the classes that reach their threshold, `(N,)` int; -1 where none does."""
    enough = probabilities >= thresholds(probabilities, labels) - ROUNDING       # (N, C)
    return np.where(enough.any(axis=1), np.where(enough, probabilities, -1.0).argmax(axis=1), -1)


def thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean self-confidence of each class, `(C,)`: p(class) over the rows that bear its label; infinite without rows.

    Section 3.1, equation 2.
    """
    classes = probabilities.shape[1]
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)       # (N,)
    count = np.bincount(labels, minlength=classes)
    total = np.bincount(labels, own, minlength=classes)
    return np.divide(total, count, out=np.full(classes, np.inf), where=count > 0)
