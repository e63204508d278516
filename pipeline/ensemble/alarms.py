"""Members that have seen the labels of their out-of-fold rows, and members that are one member twice.

Honest out-of-fold rows are like test rows to the networks that predict them. A row that was memorised is not: the
member is sure of it, right, and that even where all others doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.ensemble.diversity import disagreement, error_correlation
from pipeline.rng import generator

STATISTICS = ("surer", "right alone")
LEAST_MEMBERS, LEAST_TEST_ROWS = 4, 50      # to compare with, and to compare on
KIN = 3                 # others of its kind (models, stackers) that a member is compared with, rather than with all
LEAST_ROOM = 1e-6       # of a member that is sure of everything already
NOISE = 0.005           # share of the rows: honest members differ by as much, however alike the others are
HIDDEN = 0.5            # share of the rows: where even that many could go unseen, nothing can be told
SHARPNESS = 16          # power of the top probability: a row that is 0.96 sure counts half, one that is 0.7 nothing
DRAWS, TAILS = 4000, 5  # of honest members, for the limit; degrees of freedom: heavier tails than normal ones
SAME_TOP, SAME_ERRORS = 0.999, 0.999        # near-duplicates: share of rows with one top class, correlation of errors


@dataclass(frozen=True)
class Memory:
    """One comparison of a member's out-of-fold rows with its test rows."""

    member: int         # its place
    statistic: str      # "surer", or "right alone"
    share: float        # of the rows that would have to be memorised for this, 0 is the fold-mates' median
    noticed: float      # the share from which on it is an alarm; inf where nothing can be told
    alarm: bool


def memorised(
    oof: np.ndarray, test: np.ndarray, labels: np.ndarray, *, kinds: Sequence[str], level: float = 0.01, seed: int = 0
) -> list[Memory]:
    """Two rows per member of `oof (M, N, C)` and `test (M, T, C)`: is it better out of fold than its test rows allow?

    `surer`: mean of sum_c p^2 out of fold, or of p(true) if that is less, minus mean sum_c p^2 on the test rows.
    Either alone misleads: networks that vary much are surer one by one than their mean on the test rows, timid ones
    are right more often than they are sure. `right alone`: mean of (top p)^16 (1 - q) out of fold, counted where it is
    right, minus the same on the test rows, right or not; q is what the others' mean gives to this member's top class.
    Both are scaled so that memorising every row is 1.

    A test prediction is the mean of K networks, and the test rows may be harder: that is as true of the fold-mates.
    So a member's difference is compared with their median, in units of their spread. The limit is the quantile of the
    largest such distance over honest members whose differences are Student's t, so that there is a false alarm among
    all with probability `level`. What all members share (an image in two folds) does not show.
    """
    members = len(oof)
    if members < LEAST_MEMBERS or test.shape[1] < LEAST_TEST_ROWS:
        return [Memory(m, name, 0.0, np.inf, False) for name in STATISTICS for m in range(members)]
    limit = _limit(kinds, level / len(STATISTICS), seed)
    found = []
    for name, differences, whole in zip(STATISTICS, *_differences(oof, test, labels), strict=True):
        centre, spread = (part[0] for part in _fold_mates(differences[None], kinds))             # (M,) each
        shares, noticed = (differences - centre) / whole, limit * np.hypot(spread / whole, NOISE)
        noticed[noticed > HIDDEN] = np.inf
        found += [Memory(m, name, float(shares[m]), float(noticed[m]), bool(shares[m] > noticed[m]))
                  for m in range(members)]
    return found


def near_duplicates(stack: np.ndarray, labels: np.ndarray) -> list[tuple[int, int, float, float]]:
    """Pairs of members that are nearly one: places, share of rows with the same top class, correlation of errors."""
    same, correlation = 1 - disagreement(stack), error_correlation(stack, labels)                # (M, M) each
    pairs = zip(*np.triu_indices(len(stack), k=1), strict=True)
    return [(int(a), int(b), float(same[a, b]), float(correlation[a, b])) for a, b in pairs
            if np.array_equal(stack[a], stack[b])
            or (same[a, b] > SAME_TOP and correlation[a, b] > SAME_ERRORS)]


def _differences(oof: np.ndarray, test: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both statistics of every member, and what they would be with every row memorised, `(2, M)` each."""
    members, rows = len(oof), np.arange(len(labels))
    totals = [stack.sum(axis=0) for stack in (oof, test)]                        # (N, C), (T, C)
    found, whole = np.empty((2, len(STATISTICS), members))
    for m, (own, unseen) in enumerate(zip(oof, test, strict=True)):
        doubt, unseen_doubt = (1 - (total - p) / (members - 1) for total, p in zip(totals, (own, unseen), strict=True))
        sure, unseen_sure = (np.einsum("nc,nc->n", p, p).mean(dtype=np.float64) for p in (own, unseen))
        sure = min(sure, own[rows, labels].mean(dtype=np.float64))
        right = own.argmax(axis=1) == labels
        alone = (_alone(own, doubt) * right).mean(dtype=np.float64)
        unseen_alone = _alone(unseen, unseen_doubt).mean(dtype=np.float64)
        found[:, m] = sure - unseen_sure, alone - unseen_alone
        whole[:, m] = 1 - unseen_sure, doubt[rows, labels].mean(dtype=np.float64)
    return found, np.maximum(whole, LEAST_ROOM)


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
    """The 1 - level quantile of the largest distance in units of the spread, over honest members."""
    drawn = generator(seed, "honest members").standard_t(TAILS, size=(DRAWS, len(kinds)))
    centre, spread = _fold_mates(drawn, kinds)
    return float(np.quantile(((drawn - centre) / spread).max(axis=1), 1 - level))
