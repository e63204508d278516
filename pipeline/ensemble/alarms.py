"""Members that have seen the labels of their out-of-fold rows, and members that are one member twice.

Honest out-of-fold rows are like test rows to the networks that predict them. A row that was memorised is not: the
member is sure of it, right, and that even where all others doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.ensemble.diversity import disagreement, error_correlation
from pipeline.rng import generator

LEAST_MEMBERS, LEAST_TEST_ROWS = 4, 50      # to compare with, and to compare on
KIN = 3                 # others of its kind (models, stackers) that a member is compared with, rather than with all
NOISE = 0.005           # share of the rows: honest members differ by as much, however alike the others are
HIDDEN = 0.5            # share of the rows: where even that many could go unseen, nothing can be told
SHARPNESS = 8           # power of the top probability: of rows that are 0.9 sure half counts, of 0.5 nearly nothing
DRAWS = 4000            # of members without a leak, for the limit
SAME_TOP, SAME_ERRORS = 0.999, 0.999        # near-duplicates: share of rows with one top class, correlation of errors


@dataclass(frozen=True)
class Memory:
    """One comparison of a member's out-of-fold rows with its test rows."""

    member: int         # its place
    statistic: str      # "sure and right", or "right alone"
    share: float        # of the rows that would have to be memorised for this, 0 is the fold-mates' median
    noticed: float      # the share from which on it is an alarm; inf where nothing can be told
    alarm: bool


def memorised(
    oof: np.ndarray, test: np.ndarray, labels: np.ndarray, *, kinds: Sequence[str], level: float = 0.01, seed: int = 0
) -> list[Memory]:
    """Two rows per member of `oof (M, N, C)` and `test (M, T, C)`: is it better out of fold than its test rows allow?

    `sure and right`: half of (sum_c p^2 + p(true)) out of fold minus sum_c p^2 on the test rows. `right alone`: mean of
    (top p)^8 (1 - q) out of fold, counted where it is right, minus the same on the test rows, right or not, with q what
    the others' mean gives to this member's top class. Both are scaled so that memorising every row is 1. A test
    prediction is the mean of K networks and so less sure, and the test rows may be of another kind: that is as true of
    the fold-mates, so each member is compared with their median, in units of their upper quartile of distances. The
    limit is the quantile of the largest such distance over honest members, whose differences are taken as normal: at
    `level` there is a false alarm among all. What all members share (an image in two folds) does not show.
    """
    members = len(oof)
    if members < LEAST_MEMBERS or test.shape[1] < LEAST_TEST_ROWS:
        return [Memory(m, name, 0.0, np.inf, False) for name in STATISTICS for m in range(members)]
    limit = _limit(list(kinds), level / len(STATISTICS), seed)
    found = []
    for name, shares in zip(STATISTICS, _shares(oof, test, labels), strict=True):
        centre, scale = _fold_mates(shares[None], kinds)                         # (1, M) each
        for m, (own, noticed) in enumerate(zip(shares - centre[0], limit * np.hypot(scale[0], NOISE), strict=True)):
            hidden = bool(noticed > HIDDEN)
            found.append(Memory(m, name, float(own), np.inf if hidden else float(noticed), own > noticed and not hidden))
    return found


STATISTICS = ("sure and right", "right alone")


def near_duplicates(stack: np.ndarray, labels: np.ndarray) -> list[tuple[int, int, float, float]]:
    """Pairs of members that are nearly one: places, share of rows with the same top class, correlation of errors."""
    same, correlation = 1 - disagreement(stack), error_correlation(stack, labels)                # (M, M) each
    pairs = zip(*np.triu_indices(len(stack), k=1), strict=True)
    return [(int(a), int(b), float(same[a, b]), float(correlation[a, b])) for a, b in pairs
            if np.array_equal(stack[a], stack[b])
            or (same[a, b] > SAME_TOP and correlation[a, b] > SAME_ERRORS)]


def _shares(oof: np.ndarray, test: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Both statistics of every member, `(2, M)`, as shares of memorised rows."""
    members, rows = len(oof), np.arange(len(labels))
    totals = [stack.sum(axis=0, dtype=np.float32) for stack in (oof, test)]                      # (N, C), (T, C)
    found = np.empty((len(STATISTICS), members))
    for m in range(members):
        doubt = [1 - (total - stack[m]) / (members - 1) for total, stack in zip(totals, (oof, test), strict=True)]
        true = oof[m][rows, labels].mean(dtype=np.float64)
        sure, unseen = (float(np.einsum("nc,nc->n", p, p).mean(dtype=np.float64)) for p in (oof[m], test[m]))
        found[0, m] = ((sure + true) / 2 - unseen) / max(1 - unseen, 1e-6)
        alone, unseen = _alone(oof[m], doubt[0]), _alone(test[m], doubt[1])                      # (N,), (T,)
        right = oof[m].argmax(axis=1) == labels
        memory = float(doubt[0][rows, labels].mean(dtype=np.float64))
        found[1, m] = ((alone * right).mean(dtype=np.float64) - unseen.mean(dtype=np.float64)) / max(memory, 1e-6)
    return found


def _alone(member: np.ndarray, doubt: np.ndarray) -> np.ndarray:
    """How sure the member is of its top class, times how much the others doubt it, `(n,)`."""
    rows, top = np.arange(len(member)), member.argmax(axis=1)
    return member[rows, top] ** SHARPNESS * doubt[rows, top]


def _fold_mates(shares: np.ndarray, kinds: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """For each member of draws `(D, M)` the median of the others of its kind, and the others' spread, `(D, M)` each.

    The spread is the upper quartile of the distances of all others from the median of their own fold-mates: a quarter
    of them may leak.
    """
    kind, members = np.array(kinds), shares.shape[1]
    centre = np.empty_like(shares)
    for m in range(members):
        others = np.arange(members) != m
        kin = others & (kind == kind[m])
        centre[:, m] = np.median(shares[:, kin if kin.sum() >= KIN else others], axis=1)
    distances = np.abs(shares - centre)
    spread = np.empty_like(shares)
    for m in range(members):
        spread[:, m] = np.quantile(np.delete(distances, m, axis=1), 0.75, axis=1)
    return centre, spread


def _limit(kinds: Sequence[str], level: float, seed: int) -> float:
    """The 1 - level quantile of the largest distance in units of the spread, over honest members that differ normally."""
    drawn = generator(seed, "honest members").normal(size=(DRAWS, len(kinds)))
    centre, spread = _fold_mates(drawn, kinds)
    return float(np.quantile(((drawn - centre) / spread).max(axis=1), 1 - level))
