"""Which rows an epoch visits, and in which order."""

from typing import Literal

import numpy as np

Sampling = Literal["natural", "sqrt", "balanced"]


def epoch_order(labels: np.ndarray, *, sampling: Sampling, rng: np.random.Generator) -> np.ndarray:
    """`n` indices into `labels` `(n,)`, int64, in random order.

    "natural" visits each row once. "sqrt" draws a class in proportion to the root of its number of rows, "balanced"
    draws all classes alike; a class comes up its expected number of times, rounded up or down without bias. Its rows
    take turns: no row is used again before every row of its class was.
    """
    if sampling == "natural":
        return rng.permutation(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    odds = counts ** {"sqrt": 0.5, "balanced": 0.0}[sampling]
    draws = _rounded(len(labels) * odds / odds.sum(), rng=rng)                                                # (C,)
    return rng.permutation(np.concatenate([
        in_turns(np.flatnonzero(labels == label), int(n), rng=rng) for label, n in zip(classes, draws, strict=True)
    ]))


def _rounded(expected: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Whole numbers with these means and the same (whole) sum, each rounded up or down: systematic sampling."""
    ends = np.cumsum(expected)
    ends[-1] = round(ends[-1])
    return np.diff(np.floor(ends + rng.random()), prepend=0.0).astype(np.int64)


def in_turns(rows: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
    """`n` of `rows`, permutation after permutation, the last one cut short."""
    rounds = np.tile(rows, (-(-n // len(rows)), 1))                                                # (rounds, rows)
    return rng.permuted(rounds, axis=1).ravel()[:n]
