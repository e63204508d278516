"""Ragged lists of pairs (row, class) in slots: one pair of every row, then the second of the rows that have two, ...

The rows with the most pairs come first, so a reduction over each row's pairs is a few operations on contiguous columns.
"""

import numpy as np


def slotted(pairs: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs slot by slot, those of one row in the order given; the rows in a slot's order; the slots' sizes."""
    pairs = pairs[row[pairs].argsort(kind="stable")]
    starts = np.flatnonzero(np.diff(row[pairs], prepend=-1))
    lengths, rows = np.diff(starts, append=len(pairs)), row[pairs][starts]
    slot = np.arange(len(pairs)) - np.repeat(starts, lengths)
    longest_first = (-lengths).argsort(kind="stable")
    place = np.empty_like(longest_first)
    place[longest_first] = np.arange(len(rows))
    order = (slot * len(rows) + np.repeat(place, lengths)).argsort()
    return pairs[order], rows[longest_first], np.bincount(slot)


def taken(values: np.ndarray, bag: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Some columns of some rows, `(b, p)`."""
    result = np.empty((len(bag), len(pairs)), dtype=values.dtype)
    for place, member in enumerate(bag):
        values[member].take(pairs, out=result[place], mode="clip")               # the only mode without a second copy
    return result


def placed(row: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Where each of `row` is in `rows`."""
    place = np.empty(rows.max(initial=-1) + 1, dtype=np.int64)
    place[rows] = np.arange(len(rows))
    return place[row]


def each(slots: np.ndarray) -> list[slice]:
    """Where each slot lies among the pairs, given the slots' sizes."""
    ends = slots.cumsum()
    return [slice(end - size, end) for size, end in zip(slots.tolist(), ends.tolist(), strict=True)]
