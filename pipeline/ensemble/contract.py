"""What a method is: fit on the members' out-of-fold predictions -> parameters -> combine the members on any rows.

Arrays are `(M, N, C)`: M members, N rows, C classes, float32, every row a distribution over the classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from pipeline.ensemble.simplex import true_class
from pipeline.metrics import CLIP, METRICS, Metric

BLOCK = 512             # rows at a time, so that what is added up stays in the cache


@dataclass(frozen=True)
class Settings:
    """What a fit may depend on beside the predictions and the labels."""

    metric: Metric = METRICS["log_loss"]
    greedy_steps: int = 50          # additions after the sorted initialisation
    greedy_bags: int = 20           # random subsets of the members, each searched by itself
    greedy_share: float = 0.8       # of the members in a bag
    shrinkage: float = 1.0          # of per-class weights and stackers towards the method that they refine
    seed: int = 0


@dataclass(eq=False)
class Predictions:
    """The members' predictions on rows, and what methods ask of them again and again, computed once.

    `labels (N,)` are class indices; None for rows whose labels nobody knows. `threads` may work on columns at once.
    """

    stack: np.ndarray               # (M, N, C) float32
    labels: np.ndarray | None
    threads: int = 1
    memory: dict[Any, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def true(self) -> np.ndarray:
        """Probability of the true class `(N, M)` float64, not below 1e-15: all that the log loss of a blend needs."""
        assert self.labels is not None
        return np.maximum(true_class(self.stack, self.labels), CLIP)

    @cached_property
    def tops(self) -> np.ndarray:
        """Most probable class `(M, N)`, the first of equals."""
        return np.stack([member.argmax(axis=1) for member in self.stack])

    def all(self) -> "View":
        """Every member on every row."""
        return View(self, np.arange(len(self.stack)), slice(0, self.stack.shape[1]))


@dataclass(frozen=True, eq=False)
class View:
    """Some members `(m,)` on some rows, a slice or indices `(n,)`; nothing is copied before it is asked for."""

    predictions: Predictions
    members: np.ndarray
    rows: slice | np.ndarray

    @property
    def classes(self) -> int:
        return int(self.predictions.stack.shape[2])

    @cached_property
    def labels(self) -> np.ndarray:
        """Of these rows, `(n,)`."""
        assert self.predictions.labels is not None
        return self.predictions.labels[self.rows]

    @cached_property
    def true(self) -> np.ndarray:
        """Probability of the true class, `(n, m)` float64."""
        rows = self.predictions.true[self.rows]
        return rows if np.array_equal(self.members, np.arange(rows.shape[1])) else rows[:, self.members]

    @cached_property
    def tops(self) -> np.ndarray:
        """Most probable class, `(m, n)`."""
        return self.predictions.tops[self.members][:, self.rows]

    def __len__(self) -> int:
        """Number of rows."""
        if isinstance(self.rows, slice):
            return len(range(*self.rows.indices(self.predictions.stack.shape[1])))
        return len(self.rows)

    def __iter__(self) -> Iterator[np.ndarray]:
        """The members' predictions `(n, C)` in turn."""
        return (self.predictions.stack[m][self.rows] for m in self.members)

    def blocks(self) -> Iterator[tuple[slice, "View"]]:
        """The same members on at most `BLOCK` rows at a time, with the place of these rows among all of the view."""
        for start in range(0, len(self), BLOCK):
            place = slice(start, min(start + BLOCK, len(self)))
            yield place, self.at(place)

    def at(self, place: slice | np.ndarray) -> "View":
        """The same members on some of these rows, named by their place in this view."""
        if isinstance(self.rows, slice):
            first = self.rows.start
            rows = slice(first + place.start, first + place.stop) if isinstance(place, slice) else first + place
        else:
            rows = self.rows[place]
        return View(self.predictions, self.members, rows)

    def without(self, place: int) -> "View":
        """The same rows without one member, named by its place in this view."""
        return View(self.predictions, np.delete(self.members, place), self.rows)

    def only(self, places: np.ndarray) -> "View":
        """The same rows with some members, named by their places in this view."""
        return View(self.predictions, self.members[places], self.rows)


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a method learnt; `combine` reads nothing else."""

    weights: np.ndarray | None              # (m,) float64, or (m, C): not negative, sum to one; None: no such weights
    power: float = 1.0                      # exponent of a power mean, or of the rank link
    offset: np.ndarray | None = None        # (C,) of the rank link: where each class starts
    reference: View | None = None           # of the rank link: the rows that define the places
    model: Any = None                       # what a stacker or a calibration learnt
    gap: float | None = None                # upper bound on the distance to the optimal in-sample log loss, in nats
    note: str = ""


class Fit(Protocol):
    def __call__(self, view: View, *, settings: Settings) -> Fitted:
        """Parameters from the members' predictions on the rows of the view, and their labels."""


class Combine(Protocol):
    def __call__(self, view: View, fitted: Fitted) -> np.ndarray:
        """Probabilities `(n, C)` float32 whose rows sum to one, of the same members on the rows of the view."""


class Refit(Protocol):
    def __call__(self, view: View, fitted: Fitted, left_out: int, *, settings: Settings) -> Fitted:
        """What `fit` gives for `view.without(left_out)`, from what it gave for the view."""


@dataclass(frozen=True)
class Method:
    """One row of the table of methods."""

    name: str
    fit: Fit
    combine: Combine
    simplicity: float                       # 0 is the simplest: ties between methods go to the smaller
    learns: bool = True                     # False: the fit does not look at the labels
    linear: bool = False                    # `combine` is the weighted arithmetic mean
    refit: Refit | None = None


def equal_weights(members: int) -> np.ndarray:
    """1/M for each member, `(M,)`."""
    return np.full(members, 1 / members)


def drop(fitted: Fitted, member: int) -> Fitted:
    """The same method without one member: weights kept and renormalised, equal over the rest if it had them all.

    Weights `(m, C)` are renormalised class by class. Raises ValueError for a method without weights.
    """
    if fitted.weights is None:
        raise ValueError("this method has no weights on members")
    rest = np.delete(fitted.weights, member, axis=0)                             # (m - 1,) or (m - 1, C)
    totals = rest.sum(axis=0)
    shared = np.divide(rest, totals, out=np.full_like(rest, 1 / len(rest)), where=totals > 0)
    reference = None if fitted.reference is None else fitted.reference.without(member)
    return replace(fitted, weights=shared, reference=reference, gap=None)
