"""The loss of an ensemble as a function of sums over its picks, for greedy selection: one objective for each metric."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.ensemble.contract import View
from pipeline.ensemble.counted import hits, winners

GROUP = 16              # rows to one logarithm: the product of 16 probabilities of at least 1e-15 does not underflow
BLOCK = 4096            # rows at a time, so that what is multiplied stays in the cache


class Objective(Protocol):
    """Knows the members and the labels; the ensemble comes as sums `(P,)` and a number of picks."""

    @property
    def values(self) -> np.ndarray:
        """What a pick of each member adds to the sums, `(m, P)` float64."""

    def stride(self, picks: int) -> int:
        """For how many more picks than so many it pays to look at what is near, before it is asked for anew."""

    def loss(self, total: np.ndarray, picks: int) -> float:
        """Of the ensemble of so many picks with these sums, `(P,)`."""

    def losses(self, total: np.ndarray, picks: int) -> np.ndarray:
        """Of the ensembles of so many picks that have one member more than these sums; one for each member, `(m,)`."""

    def near(self, total: np.ndarray, bag: np.ndarray, steps: int) -> "tuple[Objective, np.ndarray]":
        """The part that 1 to `steps` more picks from the bag could change, of its members alone, and its sums `(P',)`.

        The rest is settled. `total` are the sums so far, `(P,)`; `bag` are places of members, `(b,)`.
        """


@dataclass(frozen=True, eq=False)
class LogLoss:
    """Mean negative log of the mean of the picks' probabilities of the true class.

    A product of sixteen sums needs one logarithm, so a candidate costs an addition and a multiplication for each row.
    """

    values: np.ndarray      # (m, P): rows padded with ones, which cost nothing, to whole groups
    rows: int

    def stride(self, picks: int) -> int:
        return 2**31

    def loss(self, total: np.ndarray, picks: int) -> float:
        return float(self._losses(np.zeros((1, 1)), total, picks)[0])

    def losses(self, total: np.ndarray, picks: int) -> np.ndarray:
        return self._losses(self.values, total, picks)

    def near(self, total: np.ndarray, bag: np.ndarray, steps: int) -> tuple["LogLoss", np.ndarray]:
        return LogLoss(self.values[bag], self.rows), total

    def _losses(self, added: np.ndarray, total: np.ndarray, picks: int) -> np.ndarray:
        added = np.broadcast_to(added, (len(added), len(total)))                 # (q, P)
        logs = np.zeros(len(added))
        for start in range(0, len(total), BLOCK):
            block = slice(start, start + BLOCK)
            sums = (total[block] + added[:, block]).reshape(len(added), GROUP, -1)
            logs += np.log(np.multiply.reduce(sums, axis=1)).sum(axis=1)
        return (len(total) * np.log(picks) - logs) / self.rows


def _log_loss(view: View) -> LogLoss:
    padding = -len(view) % GROUP
    return LogLoss(np.pad(view.true.T, ((0, 0), (0, padding)), constant_values=1), len(view))


OBJECTIVES: dict[str, Callable[[View], Objective]] = {
    "log_loss": _log_loss,
    "accuracy": lambda view: hits(view, 1),
    "top_5": lambda view: hits(view, 5),
    "macro_f1": winners,
}
