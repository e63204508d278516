"""Ensemble selection with replacement (Caruana et al. 2004): add what helps the mean most, again and again."""

from dataclasses import dataclass, replace
from itertools import accumulate
from weakref import ref

import numpy as np

from pipeline.ensemble.contract import Fitted, Settings, View
from pipeline.ensemble.objective import OBJECTIVES, Objective
from pipeline.rng import generator

DECIMALS = 12           # of losses: what is closer counts as a tie, whatever the order of the rows


def fit_greedy(view: View, *, settings: Settings) -> Fitted:
    """Weights: how often each member was picked, in the best ensemble on the way; the mean over random bags of members.

    Sorted initialisation: members in the order of their own loss, as many from the front as score best together
    (Caruana, Niculescu-Mizil, Crew and Ksikes 2004, section 2.2; a copy of a member before it is passed over). Then
    `settings.greedy_steps` additions with replacement, each the best for the metric (2.1). All that for
    `settings.greedy_bags` random subsets of the members (2.3); one bag holds all members: the textbook's algorithm.
    Ties go to the smaller ensemble, and to the earlier member; for metrics that count rows, which tie often, to an
    order drawn for each bag, so that every bag is a restart.
    """
    single, objective, steps = _singles(view, settings), _objective(view, settings), settings.greedy_steps
    paths = [_search(view, objective, bag, single, steps) for bag in _bags(view.members, settings)]
    return _fitted(view.members, single, paths)


def refit_greedy(view: View, fitted: Fitted, left_out: int, *, settings: Settings) -> Fitted:
    """`fit_greedy(view.without(left_out))` to the bit; only bags whose search had picked the member search again."""
    single, objective, steps = fitted.model.single, _objective(view, settings), settings.greedy_steps
    rest, gone = np.delete(np.arange(len(view.members)), left_out), int(view.members[left_out])
    paths = []
    for places, path in zip(_bags(view.members[rest], settings), fitted.model.paths, strict=True):
        bag = rest[places]
        same = np.array_equal(view.members[bag], path.bag[path.bag != gone]) and gone not in path.picks
        if same and gone in path.bag:       # the fronts behind its place have changed
            start = _sorted_start(objective, bag, single)[0]
            same = np.array_equal(view.members[start], path.picks[:path.start])
        paths.append(replace(path, bag=view.members[bag]) if same else _search(view, objective, bag, single, steps))
    return _fitted(view.members[rest], Singles(single.losses[rest], single.copies[rest]), paths)


def greedy_picks(view: View, *, settings: Settings) -> np.ndarray:
    """Places of the members picked from all, one after the other: the initialisation, then the additions."""
    everyone, single = np.arange(len(view.members)), _singles(view, settings)
    path = _search(view, _objective(view, settings), everyone, single, settings.greedy_steps)
    place = {int(member): place for place, member in enumerate(view.members)}
    return np.array([place[int(member)] for member in path.picks])


@dataclass(frozen=True, eq=False)
class Path:
    """One bag's search; members by their index among all predictions."""

    bag: np.ndarray         # in the order in which ties go
    picks: np.ndarray       # the whole path
    start: int              # picks of the initialisation
    best: int               # picks of the best ensemble on the path


@dataclass(frozen=True, eq=False)
class Singles:
    """What members are on their own."""

    losses: np.ndarray      # (m,)
    copies: np.ndarray      # (m,): members with the same predictions on these rows have the same number


@dataclass(frozen=True, eq=False)
class Search:
    """What `refit_greedy` starts from."""

    single: Singles
    paths: list[Path]       # of each bag


def _objective(view: View, settings: Settings) -> Objective:
    """Of the view's members and rows; the last one of its metric is remembered, for the members left out in turn."""
    memory, key = view.predictions.memory, ("greedy", settings.metric.name)
    if key not in memory or memory[key][0]() is not view:
        memory[key] = ref(view), OBJECTIVES[settings.metric.name](view)
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


def _singles(view: View, settings: Settings) -> Singles:
    if settings.metric.name == "log_loss":
        losses = [-np.log(true).mean() for true in np.ascontiguousarray(view.true.T)]
    else:
        losses = [settings.metric.loss(member, view.labels) for member in view]
    rounded = np.array(losses).round(DECIMALS)
    copies = np.arange(len(rounded))
    for place, loss in enumerate(rounded):
        equals = [int(other) for other in np.flatnonzero(rounded[:place] == loss) if copies[other] == other]
        same = (other for other in equals if np.array_equal(*view.only(np.array([other, place]))))
        copies[place] = next(same, place)
    return Singles(rounded, copies)


def _search(view: View, objective: Objective, bag: np.ndarray, single: Singles, steps: int) -> Path:
    """Sorted initialisation, then the additions, among the members in the bag."""
    start, best = _sorted_start(objective, bag, single)
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


def _sorted_start(objective: Objective, bag: np.ndarray, single: Singles) -> tuple[np.ndarray, float]:
    """The best front of the bag sorted by the members' own loss, and its loss; copies of earlier ones are left out."""
    by_loss = bag[np.argsort(single.losses[bag], kind="stable")]
    _, firsts = np.unique(single.copies[by_loss], return_index=True)
    order = by_loss[np.sort(firsts)]
    fronts = accumulate(objective.values[place] for place in order)              # (P,) each
    losses = np.array([objective.loss(front, picks) for picks, front in enumerate(fronts, start=1)])
    front = int(losses.round(DECIMALS).argmin())
    return order[:front + 1], float(losses.round(DECIMALS)[front])


def _fitted(members: np.ndarray, single: Singles, paths: list[Path]) -> Fitted:
    """Mean over the bags of the members' shares of the best ensemble on the bag's path."""
    shares = [np.bincount(path.picks[:path.best], minlength=int(members.max()) + 1) / path.best for path in paths]
    weights = np.mean(shares, axis=0)[members]                                   # (m,)
    note = f"{np.count_nonzero(weights)} members from {len(paths)} bags of {np.mean([len(p.bag) for p in paths]):.1f}"
    return Fitted(weights / weights.sum(), model=Search(single, paths), note=note)
