"""How differently the members err, and what the ensemble gains by it."""

from dataclasses import dataclass

import numpy as np
from scipy.cluster import hierarchy

from pipeline.ensemble.simplex import softmax
from pipeline.metrics import CLIP, log_loss


@dataclass(frozen=True)
class Ambiguity:
    """`mean_loss` = `ensemble_loss` + `ambiguity`: what the mean member loses, the ensemble, and the spread between."""

    mean_loss: float
    ensemble_loss: float
    ambiguity: float                # mean of the distances, never negative
    member_losses: np.ndarray       # (M,)
    member_distances: np.ndarray    # (M,): of each member from the ensemble, mean over the rows


def log_loss_ambiguity(stack: np.ndarray, labels: np.ndarray) -> Ambiguity:
    """Mean log loss of the members = log loss of their geometric mean + mean KL(geometric mean || member), in nats.

    Exact in every row, for `stack (M, N, C)` whose rows sum to one; probabilities are clipped below at 1e-15. Needs a
    buffer of `(N, C)` in double precision and two passes over the stack. Heskes 1998, Selecting weighting factors in
    logarithmic opinion pools; Wood et al. 2023, A unified theory of diversity in ensemble learning.
    """
    mean_log = np.zeros(stack.shape[1:])                                         # (N, C)
    for member in stack:
        mean_log += _log(member)
    mean_log /= len(stack)
    pooled = softmax(mean_log)                                                   # (N, C)
    negentropy = float((pooled * np.log(np.maximum(pooled, CLIP))).sum(axis=1).mean())
    weights = pooled.astype(stack.dtype)                                         # (N, C)
    crosses = np.array([_mean_dot(weights, _log(member)) for member in stack])   # (M,)
    losses = np.array([log_loss(member, labels) for member in stack])            # (M,)
    return _ambiguity(losses, log_loss(pooled, labels), negentropy - crosses)


def brier_ambiguity(stack: np.ndarray, labels: np.ndarray) -> Ambiguity:
    """Mean Brier score of the members = Brier score of their arithmetic mean + mean squared distance from that mean.

    Exact in every row, for `stack (M, N, C)`; scores and distances are sums over the classes, in [0, 2]. Needs a buffer
    of `(N, C)` in double precision and one pass over the stack. Krogh and Vedelsby 1995, Neural network ensembles,
    cross validation, and active learning.
    """
    rows = np.arange(len(labels))
    pooled = np.zeros(stack.shape[1:])                                           # (N, C)
    for member in stack:
        pooled += member
    pooled /= len(stack)
    square = _mean_dot(pooled, pooled)
    squares = np.array([_mean_dot(member, member) for member in stack])          # (M,)
    weights = pooled.astype(stack.dtype)
    crosses = np.array([_mean_dot(member, weights) for member in stack])         # (M,)
    true = stack[:, rows, labels].mean(axis=1, dtype=np.float64)                 # (M,)
    ensemble = square - 2 * float(pooled[rows, labels].mean()) + 1
    return _ambiguity(squares - 2 * true + 1, ensemble, squares - 2 * crosses + square)


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


def correctness(stack: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1.0 where a member's most probable class is the label, `(M, N)` float64; ties go to the first class."""
    return (stack.argmax(axis=2) == labels).astype(np.float64)


def q_statistic(correct: np.ndarray) -> np.ndarray:
    """Yule's Q of two members' right and wrong rows, `(M, M)` in [-1, 1]: (ad - bc) / (ad + bc).

    a: both right, d: both wrong, b and c: one of them. Zero for independent members, below zero where they err on
    different rows; one on the diagonal, zero where ad + bc = 0. `correct` is `correctness`'s.
    Kuncheva and Whitaker 2003, Measures of diversity in classifier ensembles.
    """
    both_right, both_wrong, only_first = _agreement(correct)                     # (M, M) each
    same, differ = both_right * both_wrong, only_first * only_first.T
    total = same + differ
    q = np.divide(same - differ, total, out=np.zeros_like(total), where=total > 0)
    np.fill_diagonal(q, 1)
    return q


def double_fault(correct: np.ndarray) -> np.ndarray:
    """Share of rows on which both members are wrong, `(M, M)` in [0, 1]; a member's error rate is on the diagonal.

    Kuncheva and Whitaker 2003. `correct` is `correctness`'s.
    """
    return _agreement(correct)[1] / correct.shape[1]


def merge_tree(correlation: np.ndarray) -> np.ndarray:
    """Members merged by average linkage on 1 - correlation: scipy's linkage matrix, `(M - 1, 4)`.

    Its leaves are ordered so that neighbours are as alike as the tree allows. One member has no merges.
    """
    if len(correlation) == 1:
        return np.empty((0, 4))
    pairs = np.maximum(1 - correlation[np.triu_indices(len(correlation), k=1)], 0)
    return hierarchy.linkage(pairs, method="average", optimal_ordering=True)


def leaf_order(tree: np.ndarray) -> np.ndarray:
    """The members in the order of a `merge_tree`'s leaves, `(M,)`."""
    return hierarchy.leaves_list(tree) if len(tree) else np.zeros(1, dtype=np.int32)


def _log(member: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(member, member.dtype.type(CLIP)))                   # (N, C)


def _mean_dot(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the rows of the inner product of two `(N, C)`: no temporary of their size, summed in double."""
    return float(np.einsum("nc,nc->n", a, b).mean(dtype=np.float64))


def _ambiguity(losses: np.ndarray, ensemble: float, distances: np.ndarray) -> Ambiguity:
    distances = np.maximum(distances, 0)        # rounding
    return Ambiguity(float(losses.mean()), ensemble, float(distances.mean()), losses, distances)


def _agreement(correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of rows `(M, M)` on which both are right, both are wrong, and only the row's member is right."""
    both = correct @ correct.T
    right = correct.sum(axis=1)[:, None]                                         # (M, 1)
    return both, correct.shape[1] - right - right.T + both, right - both
