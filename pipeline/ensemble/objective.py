"""The loss of an ensemble as a function of sums over its picks, for greedy selection: one objective for each metric."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.ensemble.contract import View
from pipeline.ensemble.counted import hits, winners

GROUP = 16              # rows to one logarithm: the product of 16 probabilities of at least 1e-15 does not underflow
SLACK = 1e-10           # nats: rounding of a gain, with much to spare


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
        """Of the ensembles of so many picks that have one member more than these sums; one for each member, `(m,)`.

        Infinite for members that others beat for sure. From call to call the sums only grow.
        """

    def near(self, total: np.ndarray, bag: np.ndarray, steps: int) -> "tuple[Objective, np.ndarray]":
        """The part that 1 to `steps` more picks from the bag could change, of its members alone, and its sums `(P',)`.

        The rest is settled. `total` are the sums so far, `(P,)`; `bag` are places of members, `(b,)`.
        """


@dataclass(frozen=True, eq=False)
class LogLoss:
    """Mean negative log of the mean of the picks' probabilities of the true class.

    A product of sixteen sums needs one logarithm. And what a member adds to the mean log of the sums only shrinks while
    they grow, so its gain of an earlier step bounds that of the next (Minoux 1978, accelerated greedy algorithms).
    """

    values: np.ndarray      # (m, P): rows padded with ones, which cost nothing, to whole groups
    rows: int
    gains: np.ndarray       # (m,): of the sum of logs, as last computed: at least what they are now

    def stride(self, picks: int) -> int:
        return 2**31

    def loss(self, total: np.ndarray, picks: int) -> float:
        return (len(total) * float(np.log(picks)) - _logs(total)) / self.rows

    def losses(self, total: np.ndarray, picks: int) -> np.ndarray:
        losses, before, best = np.full(len(self.values), np.inf), _logs(total), -np.inf
        for member in np.argsort(-self.gains, kind="stable"):
            if self.gains[member] < best - SLACK * self.rows:
                break
            logs = _logs(total + self.values[member])
            losses[member] = (len(total) * np.log(picks) - logs) / self.rows
            self.gains[member] = logs - before
            best = max(best, self.gains[member])
        return losses

    def near(self, total: np.ndarray, bag: np.ndarray, steps: int) -> tuple["LogLoss", np.ndarray]:
        return LogLoss(self.values[bag], self.rows, np.full(len(bag), np.inf)), total


def _logs(total: np.ndarray) -> float:
    return float(np.log(np.multiply.reduce(total.reshape(GROUP, -1), axis=0)).sum())


def _log_loss(view: View) -> LogLoss:
    padding = -len(view) % GROUP
    values = np.pad(view.true.T, ((0, 0), (0, padding)), constant_values=1)
    return LogLoss(values, len(view), np.full(len(values), np.inf))


OBJECTIVES: dict[str, Callable[[View], Objective]] = {
    "log_loss": _log_loss,
    "accuracy": lambda view: hits(view, 1),
    "top_5": lambda view: hits(view, 5),
    "macro_f1": winners,
}
