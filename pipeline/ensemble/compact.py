"""What a convex blend of the members can change: rows and classes whose outcome is open; all else is settled exactly.

A sum of non-negative multiples keeps an order that every member has, in exact arithmetic and in rounded, as rounding is
monotone. So a class that another precedes in every member never comes first, whatever the weights.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pipeline.ensemble.contract import Predictions

ROWS = 256              # at a time, so that the classes' bounds over the members stay in the cache
MARGIN = 1e-4           # relative: a class this far behind in every member cannot catch up by rounding to float32

Compact = tuple[np.ndarray, np.ndarray, np.ndarray]         # rows (P,) ascending, classes (P,), probabilities (M, P)


def open_winners(predictions: Predictions) -> Compact:
    """Of every row the classes that a blend of some members may rank first, with the members' probabilities.

    Computed once for all members and rows: what is settled for them is settled for some of them.
    """
    return _remembered(predictions, "winners", lambda block, rows: contenders(block, 1))


def open_rivals(predictions: Predictions, k: int) -> Compact:
    """Of every row the classes that decide whether a blend ranks the true class among the first `k`; see `rivals`."""
    labels = predictions.labels
    assert labels is not None
    return _remembered(predictions, f"rivals {k}", lambda block, rows: rivals(block, labels[rows], k))


def contenders(stack: np.ndarray, k: int) -> np.ndarray:
    """Classes of `(M, n, C)` that may be among the first `k` of a blend, `(n, C)` bool; the first of equals is first.

    A class is left out if `k` others precede it in every member: by a factor of 1 + `MARGIN`, or by a probability that
    is not lower and an earlier place. Others that could be left out are kept, as the class's greatest probability over
    the members is compared with the k-th largest of the classes' least ones. What weighted sums rank first does not
    change, rounded to float32 or better, ties included.
    """
    least, most = stack.min(axis=0), stack.max(axis=0)                           # (n, C)
    k = min(k, least.shape[1])
    bar = np.partition(least, -k, axis=1)[:, -k, None]                           # (n, 1)
    kept = most * stack.dtype.type(1 + MARGIN) >= bar
    tied = np.flatnonzero(((most <= bar) & kept).any(axis=1))
    above = least[tied] >= bar[tied]                                             # (n', C)
    before = above.cumsum(axis=1) - above
    kept[tied] &= (most[tied] > bar[tied]) | (before < k)
    return kept


def rivals(stack: np.ndarray, labels: np.ndarray, k: int) -> np.ndarray:
    """Classes of `(M, n, C)` whose order with the true class decides if that is among the first `k`, `(n, C)` bool.

    The true class is among them if fewer than `k` of these are ahead of it. Left out are classes behind it in every
    member, and those that `k` others precede in every member: if such a class is ahead, so are the `k`.
    """
    rows = np.arange(len(labels))
    true = stack[:, rows, labels][:, :, None]                                    # (M, n, 1)
    kept = contenders(stack, k) & ~(stack < true).all(axis=0)                    # (n, C)
    kept[rows, labels] = False
    return kept


def _remembered(predictions: Predictions, key: str, choose: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Compact:
    memory: dict[Any, Any] = predictions.memory
    if ("compact", key) not in memory:
        parts = list(_parts(predictions.stack, choose))
        row, label, values = (np.concatenate([part[i] for part in parts], axis=-1) for i in range(3))
        memory["compact", key] = row, label, values
    compact: Compact = memory["compact", key]
    return compact


def _parts(stack: np.ndarray, choose: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Iterator[Compact]:
    for start in range(0, stack.shape[1], ROWS):
        block = stack[:, start:start + ROWS]                                     # (M, n, C)
        row, label = np.nonzero(choose(block, np.arange(start, start + block.shape[1])))
        yield start + row, label, block[:, row, label]
