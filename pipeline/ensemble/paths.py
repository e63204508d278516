"""How good the ensemble is with 1, 2, ... M members: added from the best, or removed from all, one at a time."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.ensemble.contract import Method, Settings, View
from pipeline.ensemble.nested import splits
from pipeline.ensemble.outcomes import method_outcome, score
from pipeline.metrics import CLIP

Order = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Step:
    """An ensemble of some members; scores are in the metric."""

    members: int                # how many
    moved: int                  # place of the member that was added to get here, or is the next to be removed
    in_sample: float            # order and weights from the rows that are scored
    nested: float               # order and weights from the other folds


def path(method: Method, order: Order, view: View, *, folds: np.ndarray, settings: Settings) -> list[Step]:
    """One step for each number of members, ascending, when members come in the order that `order` gives.

    The order, too, is chosen without the fold that is scored: a curve over sizes picked in hindsight flatters.
    """
    metric, count = settings.metric, len(view.members)
    whole = order(view.true)
    fitted_on_all = _outcomes(method, whole, view, view, settings)                               # (M, N)
    nested = np.empty((count, len(view)))
    for others, held, rows in splits(view, folds):
        nested[:, rows] = _outcomes(method, order(others.true), others, held, settings)

    def scored(outcomes: np.ndarray) -> float:
        return score(outcomes, view.labels, metric=metric, classes=view.classes)

    return [Step(size + 1, int(whole[size]), scored(fitted_on_all[size]), scored(nested[size]))
            for size in range(count)]


def added(true: np.ndarray) -> np.ndarray:
    """The order `(M,)` in which members join: each is the one that lowers the log loss of the even mean most.

    `true` are the probabilities of the true class `(N, M)`; whatever the metric, since hits alone are too coarse to
    order members by. Ties go to the earlier member.
    """
    left, order, total = list(range(true.shape[1])), [], np.zeros(len(true))
    while left:
        losses = [-np.log(total + true[:, m]).sum() for m in left]
        order.append(left.pop(int(np.argmin(losses))))
        total += true[:, order[-1]]
    return np.array(order)


def removed(true: np.ndarray) -> np.ndarray:
    """The order `(M,)` in which the last stays: from all members, the one without which the even mean is best goes."""
    left, order, total = list(range(true.shape[1])), [], true.sum(axis=1)
    while len(left) > 1:
        losses = [-np.log(np.maximum(total - true[:, m], CLIP)).sum() for m in left]
        order.append(left.pop(int(np.argmin(losses))))
        total = true[:, left].sum(axis=1)
    return np.array([*left, *order[::-1]])


def _outcomes(method: Method, order: np.ndarray, fit_on: View, apply_to: View, settings: Settings) -> np.ndarray:
    """Outcomes `(M, n)` on `apply_to` of the first 1, 2, ... M members of the order, fitted on `fit_on`."""
    outcomes = np.empty((len(order), len(apply_to)))
    for size in range(1, len(order) + 1):
        some = np.sort(order[:size])
        fitted = method.fit(fit_on.only(some), settings=settings)
        outcomes[size - 1] = method_outcome(method, apply_to.only(some), fitted, metric=settings.metric)
    return outcomes
