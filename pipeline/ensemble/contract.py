"""What a method is: a member-wise map (embed), weights on the members (fit) and a link (combine).

The map of member m depends on member m alone, so a leave-one-out drops a row of the embedded stack instead of embedding
again. Stacks are `(M, N, C)`: M members, N rows, C classes, float32, every row a distribution over the classes.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pipeline.metrics import METRICS, Metric


@dataclass(frozen=True)
class Settings:
    """What a fit may depend on beside the predictions and the labels."""

    metric: Metric = METRICS["log_loss"]
    greedy_steps: int = 50                  # additions after the sorted initialisation


@dataclass(frozen=True, eq=False)
class Fitted:
    """What a method learnt from labels; `combine` reads nothing else."""

    weights: np.ndarray                     # (M,) float64, not negative, sums to one
    power: float = 1.0                      # of the rank link
    offset: np.ndarray | None = None        # (C,) of the rank link: where each class starts
    gap: float | None = None                # upper bound on the distance to the optimal in-sample log loss, in nats
    note: str = ""


class Embed(Protocol):
    def __call__(self, reference: np.ndarray, stack: np.ndarray) -> np.ndarray:
        """`(M, n, C)` from the `(M, N, C)` rows that define the map and the `(M, n, C)` rows that it is applied to."""


class Prepare(Protocol):
    def __call__(self, stack: np.ndarray) -> np.ndarray:
        """What embedding any subset of the rows can share, `(M, N, C)`; `embed` gives the same with and without it."""


class Fit(Protocol):
    def __call__(self, embedded: np.ndarray, labels: np.ndarray, *, settings: Settings) -> Fitted:
        """Weights from the embedded `(M, N, C)` and the labels `(N,)`."""


class Combine(Protocol):
    def __call__(self, embedded: np.ndarray, fitted: Fitted) -> np.ndarray:
        """Probabilities `(n, C)` whose rows sum to one, from the embedded `(M, n, C)`."""


@dataclass(frozen=True)
class Method:
    """One row of the table of methods."""

    name: str
    prepare: Prepare
    embed: Embed
    fit: Fit
    combine: Combine
    simplicity: int                         # 0 is the simplest: ties between methods go to the smaller


def unprepared(stack: np.ndarray) -> np.ndarray:
    """Nothing to share; no copy."""
    return stack


def identity(reference: np.ndarray, stack: np.ndarray) -> np.ndarray:
    """The map of the methods that work on probabilities as they are; no copy."""
    return stack


def equal_weights(members: int) -> np.ndarray:
    """1/M for each member, `(M,)`."""
    return np.full(members, 1 / members)


def drop(fitted: Fitted, member: int) -> Fitted:
    """The same method without one member: weights kept and renormalised, equal over the rest if it had them all."""
    rest = np.delete(fitted.weights, member)                                     # (M - 1,)
    total = rest.sum()
    return replace(fitted, weights=rest / total if total > 0 else equal_weights(len(rest)), gap=None)
