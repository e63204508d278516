"""How sure a score or a difference of scores is: all predictions are scored on the same resampled rows.

Sources: Efron and Tibshirani 1993, chapters 13 and 16; for many comparisons at once Westfall and Young 1993, 2.6 (the
largest of the studentised differences), as Romano and Wolf 2005, Econometrica 73(4).
"""

from dataclasses import dataclass

import numpy as np

from pipeline.ensemble.outcomes import losses, resampled_losses
from pipeline.metrics import Metric
from pipeline.rng import generator

CHUNK = 64      # draws at a time


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows that are resampled: rows of one cluster (images of one group) are drawn together."""

    labels: np.ndarray              # (N,)
    classes: int
    metric: Metric
    draws: int
    level: float                    # of the intervals, in (0, 1)
    seed: int
    clusters: np.ndarray | None = None      # (N,) in 0 .. G - 1; None: every row by itself


@dataclass(frozen=True)
class Interval:
    """A loss or a difference of losses with its interval; of differences, below zero the first is better."""

    difference: float
    low: float
    high: float
    standard_error: float


def drawn_losses(outcomes: np.ndarray, sample: Sample) -> np.ndarray:
    """Losses `(draws, S)` of `(S, N)` outcomes on resampled rows: the same for all, and for one seed."""
    random = generator(sample.seed, "paired bootstrap")
    clusters = sample.clusters
    groups = len(sample.labels) if clusters is None else int(clusters.max()) + 1
    drawn = []
    for start in range(0, sample.draws, CHUNK):
        many = min(CHUNK, sample.draws - start)
        picks = random.integers(0, groups, size=(many, groups), dtype=np.int32)
        picks += (groups * np.arange(many, dtype=np.int32))[:, None]
        counts = np.bincount(picks.ravel(), minlength=many * groups).reshape(many, groups).astype(np.float64)
        counts = counts if clusters is None else counts[:, clusters]             # (many, N)
        drawn.append(resampled_losses(outcomes, sample.labels, counts, metric=sample.metric, classes=sample.classes))
    return np.concatenate(drawn)


def intervals(outcomes: np.ndarray, sample: Sample, *, against: np.ndarray | None = None) -> list[Interval]:
    """Percentile intervals of the loss of each of `(S, N)` outcomes, or of its difference to that of `against (N,)`."""
    together = outcomes if against is None else np.concatenate([outcomes, against[None]])
    observed = losses(together, sample.labels, metric=sample.metric, classes=sample.classes)
    drawn = drawn_losses(together, sample)                                       # (draws, S or S + 1)
    if against is not None:
        observed, drawn = observed[:-1] - observed[-1], drawn[:, :-1] - drawn[:, -1:]
    low, high = np.quantile(drawn, [(1 - sample.level) / 2, (1 + sample.level) / 2], axis=0)
    return [Interval(float(o), float(a), float(b), float(s))
            for o, a, b, s in zip(observed, low, high, drawn.std(axis=0, ddof=1), strict=True)]


def simultaneous(pairs: list[tuple[np.ndarray, np.ndarray]], sample: Sample) -> list[Interval]:
    """Intervals of the differences in loss of all pairs of outcomes `(N,)` that hold together at `sample.level`.

    Each is the difference plus or minus q standard errors, q the `level` quantile over the draws of the largest
    studentised deviation of all the pairs: what corrects for their number, and uses how they depend on each other.
    """
    distinct: dict[int, np.ndarray] = {id(outcome): outcome for pair in pairs for outcome in pair}
    place = {name: i for i, name in enumerate(distinct)}
    outcomes = np.stack(list(distinct.values()))
    first, second = ([place[id(pair[side])] for pair in pairs] for side in (0, 1))
    observed = losses(outcomes, sample.labels, metric=sample.metric, classes=sample.classes)
    drawn = drawn_losses(outcomes, sample)                                       # (draws, S)
    difference, drawn = observed[first] - observed[second], drawn[:, first] - drawn[:, second]
    error = drawn.std(axis=0, ddof=1)
    largest = np.divide(np.abs(drawn - difference), error, out=np.zeros_like(drawn), where=error > 0).max(axis=1)
    reach = float(np.quantile(largest, sample.level)) * error
    return [Interval(float(d), float(d - r), float(d + r), float(e))
            for d, r, e in zip(difference, reach, error, strict=True)]
