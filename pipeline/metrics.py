"""Scores over probabilities `(N, C)` and integer labels `(N,)`: a table of metrics and their directions."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CLIP = 1e-15  # Kaggle's clipping of probabilities before the logarithm


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log of the true class's probability, in nats; clipped to [1e-15, 1 - 1e-15] like Kaggle's."""
    return float(row_log_loss(probabilities, labels).mean())


def row_log_loss(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The log loss of each row, `(N,)`, float64."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return -np.log(np.clip(true, CLIP, 1 - CLIP))


def row_accuracy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1.0 where the most probable class is the label, `(N,)`; ties go to the first class, as in numpy.argmax."""
    return (probabilities.argmax(axis=1) == labels).astype(np.float64)


def row_top_5(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1.0 where fewer than five classes are more probable than the label, or tied and before it, `(N,)`."""
    true = probabilities[np.arange(len(labels)), labels][:, None]                # (N, 1)
    before = np.arange(probabilities.shape[1])[None, :] < labels[:, None]         # (N, C)
    rank = (probabilities > true).sum(axis=1) + ((probabilities == true) & before).sum(axis=1)
    return (rank < 5).astype(np.float64)


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose most probable class is the label, in [0, 1]."""
    return float(row_accuracy(probabilities, labels).mean())


def top_5(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose label is among the five most probable classes, in [0, 1]."""
    return float(row_top_5(probabilities, labels).mean())


def macro_f1(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of F1, in [0, 1]; classes neither predicted nor present are left out, as in scikit-learn."""
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    hits = np.bincount(labels[predicted == labels], minlength=n_classes)
    total = np.bincount(labels, minlength=n_classes) + np.bincount(predicted, minlength=n_classes)
    return float((2 * hits[total > 0] / total[total > 0]).mean())


@dataclass(frozen=True)
class Metric:
    """A score, its direction, and its value per row where the score is a mean over rows (else None)."""

    name: str
    score: Callable[[np.ndarray, np.ndarray], float]
    greater_is_better: bool
    per_row: Callable[[np.ndarray, np.ndarray], np.ndarray] | None

    def loss(self, probabilities: np.ndarray, labels: np.ndarray) -> float:
        """The score with its sign turned so that less is better."""
        value = self.score(probabilities, labels)
        return -value if self.greater_is_better else value


METRICS = {
    m.name: m
    for m in (
        Metric("log_loss", log_loss, False, row_log_loss),
        Metric("accuracy", accuracy, True, row_accuracy),
        Metric("top_5", top_5, True, row_top_5),
        Metric("macro_f1", macro_f1, True, None),
    )
}


def all_scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Every metric by name."""
    return {name: metric.score(probabilities, labels) for name, metric in METRICS.items()}
