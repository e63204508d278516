"""Ensemble selection with replacement (Caruana et al. 2004): add what helps the mean most, again and again."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np

from pipeline.ensemble.contract import Fitted, Settings, View
from pipeline.ensemble.counted import hits, winners
from pipeline.rng import generator

DECIMALS = 12           # of losses: what is closer counts as a tie, whatever the order of the rows
GROUP = 16              # rows to one logarithm: the product of 16 probabilities of at least 1e-15 does not underflow
BLOCK = 4096            # rows at a time, so that what is multiplied stays in the cache


def fit_greedy(view: View, *, settings: Settings) -> Fitted:
    """Weights: how often each member was picked, in the best ensemble on the way; the mean over random bags of members.

    Sorted initialisation: members in the order of their own loss, as many from the front as score best together
    (Caruana, Niculescu-Mizil, Crew and Ksikes 2004, section 2.2; a copy of a member before it is passed over). Then
    `settings.greedy_steps` additions with replacement, each the best for the metric (2.1). All that for
    `settings.greedy_bags` random subsets of the members (2.3); one bag holds all members: the textbook's algorithm.
    Ties go to the smaller ensemble, and to the earlier member; for metrics that count rows, which tie often, to an
    order drawn for each bag, so that every bag is a restart.
    """
    alone, objective = _alone(view, settings), _objective(view, settings)
    bags = _bags(view.members, settings)
    return _fitted(view.members, alone, [_search(view, objective, bag, alone, settings.greedy_steps) for bag in bags])


def refit_greedy(view: View, fitted: Fitted, left_out: int, *, settings: Settings) -> Fitted:
    """`fit_greedy(view.without(left_out))` to the bit; only the bags whose search had picked the member search again."""
    alone, objective, steps = fitted.model.alone, _objective(view, settings), settings.greedy_steps
    rest, gone = np.delete(np.arange(len(view.members)), left_out), int(view.members[left_out])
    paths = []
    for places, path in zip(_bags(view.members[rest], settings), fitted.model.paths, strict=True):
        bag = rest[places]
        same = np.array_equal(view.members[bag], path.bag[path.bag != gone]) and gone not in path.picks
        if same and gone in path.bag:       # the fronts behind its place have changed
            start = _sorted_start(objective, bag, alone)[0]
            same = np.array_equal(view.members[start], path.picks[:path.start])
        paths.append(path if same else _search(view, objective, bag, alone, steps))
    return _fitted(view.members[rest], alone[rest], paths)


def greedy_picks(view: View, *, settings: Settings) -> np.ndarray:
    """The places of the members picked from all members, one after the other: the initialisation, then the additions."""
    path = _search(view, _objective(view, settings), np.arange(len(view.members)), _alone(view, settings),
                   settings.greedy_steps)
    place = {int(member): place for place, member in enumerate(view.members)}
    return np.array([place[int(member)] for member in path.picks])


class Objective(Protocol):
    """The loss of an ensemble as a function of sums over its picks."""

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
class Path:
    """One bag's search; members by their index among all predictions."""

    bag: np.ndarray         # in the order in which ties go
    picks: np.ndarray       # the whole path
    start: int              # picks of the initialisation
    best: int               # picks of the best ensemble on the path


@dataclass(frozen=True, eq=False)
class Search:
    """What `refit_greedy` starts from: every member's own loss `(m,)` and every bag's path."""

    alone: np.ndarray
    paths: list[Path]


@dataclass(frozen=True, eq=False)
class LogLoss:
    """Mean negative log of the mean of the picks' probabilities of the true class."""

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


def _objective(view: View, settings: Settings) -> Objective:
    """Of the view's members and rows; the last one of its metric is remembered, for the members left out in turn."""
    memory, key = view.predictions.memory, ("greedy", settings.metric.name)
    if key not in memory or memory[key][0] is not view:
        memory[key] = view, OBJECTIVES[settings.metric.name](view)
    objective: Objective = memory[key][1]
    return objective


def _bags(members: np.ndarray, settings: Settings) -> list[np.ndarray]:
    """Places of the members of each bag, in the order in which ties go; no bag is empty.

    A member is in a bag if the number drawn for (bag, member) is below the share, or is the bag's least: whoever else
    takes part does not change that, unless the bag would be empty.
    """
    everyone = np.arange(len(members))
    if settings.greedy_bags == 1:
        return [everyone]
    numbers = np.stack([generator(settings.seed, "greedy bag", int(member)).random(settings.greedy_bags)
                        for member in members])                                  # (m, bags)
    share = 1.0 if len(everyone) <= 2 else settings.greedy_share
    bags = [np.flatnonzero((drawn < share) | (drawn == drawn.min())) for drawn in numbers.T]
    if settings.metric.name == "log_loss":
        return bags
    return [bag[numbers[bag, number].argsort(kind="stable")] for number, bag in enumerate(bags)]


def _alone(view: View, settings: Settings) -> np.ndarray:
    """Each member's own loss, `(m,)`."""
    if settings.metric.name == "log_loss":
        losses = [-np.log(true).mean() for true in np.ascontiguousarray(view.true.T)]
    else:
        losses = [settings.metric.loss(member, view.labels) for member in view]
    return np.array(losses).round(DECIMALS)


def _search(view: View, objective: Objective, bag: np.ndarray, alone: np.ndarray, steps: int) -> Path:
    """Sorted initialisation, then the additions, among the members in the bag."""
    start, best = _sorted_start(objective, bag, alone)
    picks, kept = start.tolist(), len(start)
    total = sum(objective.values[place] for place in start)                      # (P,)
    while (left := steps + len(start) - len(picks)) > 0:
        ahead = min(left, objective.stride(len(picks)))
        near, sums = objective.near(total, bag, ahead)                           # (P',)
        for _ in range(ahead):
            losses = near.losses(sums, len(picks) + 1).round(DECIMALS)           # (b,)
            pick = int(losses.argmin())
            picks.append(int(bag[pick]))
            sums = sums + near.values[pick]
            total = total + objective.values[bag[pick]]
            if losses[pick] < best:
                best, kept = losses[pick], len(picks)
    return Path(view.members[bag], view.members[picks], len(start), kept)


def _sorted_start(objective: Objective, bag: np.ndarray, alone: np.ndarray) -> tuple[np.ndarray, float]:
    """The best front of the bag sorted by the members' own loss, and its loss; copies of earlier members are left out."""
    order: list[int] = []
    for place in bag[np.argsort(alone[bag], kind="stable")].tolist():
        equals = [other for other in order if alone[other] == alone[place]]
        if not any(np.array_equal(objective.values[place], objective.values[other]) for other in equals):
            order.append(place)
    fronts = accumulate(objective.values[place] for place in order)              # (P,) each
    losses = np.array([objective.loss(front, picks) for picks, front in enumerate(fronts, start=1)])
    front = int(losses.round(DECIMALS).argmin())
    return np.array(order[:front + 1]), float(losses.round(DECIMALS)[front])


def _fitted(members: np.ndarray, alone: np.ndarray, paths: list[Path]) -> Fitted:
    """Mean over the bags of the members' shares of the best ensemble on the bag's path."""
    shares = [np.bincount(path.picks[:path.best], minlength=int(members.max()) + 1) / path.best for path in paths]
    weights = np.mean(shares, axis=0)[members]                                   # (m,)
    note = f"{np.count_nonzero(weights)} members from {len(paths)} bags of {np.mean([len(p.bag) for p in paths]):.1f}"
    return Fitted(weights / weights.sum(), model=Search(alone, paths), note=note)
