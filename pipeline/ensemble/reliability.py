"""Whether probabilities mean what they say, and which classes are taken for which."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from pipeline.metrics import row_log_loss


@dataclass(frozen=True)
class Reliability:
    """Rows binned by the probability of their most probable class, empty bins left out; `(B,)` each."""

    confidence: np.ndarray      # mean probability of the top class
    accuracy: np.ndarray        # share of rows whose top class is the label
    count: np.ndarray           # rows, int
    low: np.ndarray             # Wilson interval of the accuracy
    high: np.ndarray


@dataclass(frozen=True)
class ClassRow:
    """How the rows of one class fare."""

    label: int
    count: int
    predicted: int      # rows of any class whose top class this is
    log_loss: float     # mean over the class's rows
    accuracy: float     # the class's recall


@dataclass(frozen=True)
class Confusion:
    """A class taken for another."""

    actual: int
    predicted: int
    count: int
    share: float        # of the actual class's rows


def reliability_curve(
    probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15, level: float = 0.95
) -> Reliability:
    """The accuracy against the confidence of the most probable class, in bins of equally many rows of `(N, C)`.

    Bins end at the confidence's quantiles and hold their upper end, so rows of one confidence share a bin and masses
    are equal only where confidences differ. The interval is Wilson's (1927), at `level`.
    """
    confidence, correct = _top(probabilities, labels)
    return _binned(confidence, correct, edges=np.quantile(confidence, np.linspace(0, 1, bins + 1)), level=level)


def calibration_error(curve: Reliability) -> float:
    """Mean of |accuracy - confidence| over the bins, weighted by their rows, in [0, 1]."""
    return float((curve.count * np.abs(curve.accuracy - curve.confidence)).sum() / curve.count.sum())


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> float:
    """ECE of the most probable class over equally wide bins ((b - 1) / B, b / B], in [0, 1].

    Guo et al. 2017, On calibration of modern neural networks, equation 3. Equal masses instead of widths:
    `calibration_error(reliability_curve(...))`.
    """
    confidence, correct = _top(probabilities, labels)
    return calibration_error(_binned(confidence, correct, edges=np.linspace(0, 1, bins + 1), level=0.95))


def classwise_calibration_error(probabilities: np.ndarray, labels: np.ndarray, *, bins: int = 15) -> float:
    """Mean over the classes of the ECE of "this class or another" over equally wide bins, in [0, 1].

    Kull et al. 2019, Beyond temperature scaling: classwise-ECE.
    """
    rows, classes = probabilities.shape
    bin_of = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], probabilities)   # (N, C)
    cell = (bin_of + bins * np.arange(classes)).ravel()                          # class-major bins
    said = np.bincount(cell, probabilities.ravel(), minlength=bins * classes)    # (C * B,)
    cell_of_label = bin_of[np.arange(rows), labels] + bins * labels              # (N,)
    seen = np.bincount(cell_of_label, minlength=bins * classes)
    return float(np.abs(said - seen).sum() / rows / classes)


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over rows of the squared distance from the one-hot label, summed over classes, in [0, 2] (Brier 1950)."""
    true = probabilities[np.arange(len(labels)), labels].astype(np.float64)      # (N,)
    squares = np.einsum("nc,nc->n", probabilities, probabilities)                # (N,)
    return float((squares - 2 * true + 1).mean())


def class_table(probabilities: np.ndarray, labels: np.ndarray) -> list[ClassRow]:
    """One row per class that has rows, in the order of the classes."""
    matrix = confusion_matrix(probabilities, labels)                             # (C, C)
    count, predicted = matrix.sum(axis=1), matrix.sum(axis=0)
    loss = np.bincount(labels, row_log_loss(probabilities, labels), minlength=len(matrix))
    return [ClassRow(c, int(count[c]), int(predicted[c]), float(loss[c] / count[c]), float(matrix[c, c] / count[c]))
            for c in range(len(matrix)) if count[c]]


def confusion_matrix(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Number of rows by label and most probable class, `(C, C)`; ties go to the first class."""
    classes = probabilities.shape[1]
    cell = labels * classes + probabilities.argmax(axis=1)
    return np.bincount(cell, minlength=classes**2).reshape(classes, classes)


def top_confusions(matrix: np.ndarray, *, most: int = 20) -> list[Confusion]:
    """The largest entries off the diagonal of a `confusion_matrix`, largest first; ties in the order of the classes."""
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(-wrong.ravel(), kind="stable")[:most]
    pairs = [divmod(int(cell), len(matrix)) for cell in order if wrong.flat[cell]]
    return [Confusion(a, p, int(matrix[a, p]), float(matrix[a, p] / matrix[a].sum())) for a, p in pairs]


def _top(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of the most probable class `(N,)` float64, and whether it is the label `(N,)`."""
    top = probabilities.argmax(axis=1)
    return probabilities[np.arange(len(top)), top].astype(np.float64), top == labels


def _binned(confidence: np.ndarray, correct: np.ndarray, *, edges: np.ndarray, level: float) -> Reliability:
    bin_of = np.searchsorted(edges[1:-1], confidence)                            # (N,)
    count = np.bincount(bin_of)
    full = count > 0
    said, right = np.bincount(bin_of, confidence)[full], np.bincount(bin_of, correct)[full]
    count = count[full]
    low, high = _wilson(right / count, count, level=level)
    return Reliability(said / count, right / count, count, low, high)


def _wilson(share: np.ndarray, count: np.ndarray, *, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The score interval of a share out of `count`; never empty, never outside [0, 1]."""
    z = norm.ppf((1 + level) / 2)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)
