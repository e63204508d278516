"""Leave-one-out: what the ensemble scores without each member, optimistically and honestly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.ensemble.bootstrap import Sample, intervals
from pipeline.ensemble.choose import standing
from pipeline.ensemble.contract import Fitted, Method, Settings, View
from pipeline.ensemble.nested import splits
from pipeline.ensemble.outcomes import method_outcome, score
from pipeline.ensemble.without import outcomes_without_each

Verdict = Literal["helps", "hurts", "not distinguishable"]
VERDICTS: dict[str, Verdict] = {"worse": "helps", "better": "hurts", "not distinguishable": "not distinguishable"}


@dataclass(frozen=True)
class LeftOut:
    """The ensemble without one member; scores are in the metric, differences in its loss."""

    member: str
    weight: float               # of the member in the ensemble of all
    kept: float                 # in sample, the other weights kept and renormalised
    refitted: float             # in sample, fitted again without the member
    nested: float               # fitted again without the member and without the fold that is scored
    nested_difference: float    # nested loss without minus with: positive means that the member helps
    low: float                  # paired bootstrap interval of that difference
    high: float
    verdict: Verdict


def leave_one_out(
    method: Method, view: View, *, folds: np.ndarray, names: Sequence[str], settings: Settings, sample: Sample
) -> list[LeftOut]:
    """One row per member of the view, in its order; an ensemble of one member has none.

    Raises ValueError for a method without weights on members.
    """
    if len(view.members) == 1:
        return []
    metric = settings.metric
    fitted = method.fit(view, settings=settings)
    kept = outcomes_without_each(method, view, fitted, metric=metric)                            # (M, N)
    if method.learns:
        refitted = _refitted(method, view, view, fitted, settings)
        whole, nested = _nested(method, view, folds, settings)
    else:
        refitted, nested = kept, kept
        whole = method_outcome(method, view, fitted, metric=metric)                              # (N,)
    changes = intervals(nested, sample, against=whole)

    def scored(outcomes: np.ndarray) -> float:
        return score(outcomes, view.labels, metric=metric, classes=view.classes)

    assert fitted.weights is not None
    weights = fitted.weights.reshape(len(names), -1).mean(axis=1)                                # (M,)
    return [
        LeftOut(name, float(weights[m]), scored(kept[m]), scored(refitted[m]), scored(nested[m]), change.difference,
                change.low, change.high, verdict(change.low, change.high))
        for m, (name, change) in enumerate(zip(names, changes, strict=True))
    ]


def verdict(low: float, high: float) -> Verdict:
    """What an interval of the loss without the member minus the loss with it says about the member.

    An interval that lies within what the tables round away says nothing, whatever its sign.
    """
    return VERDICTS[standing(low, high)]


def _refitted(method: Method, fit_on: View, apply_to: View, fitted: Fitted, settings: Settings) -> np.ndarray:
    """Outcomes `(M, n)` on `apply_to` without each member, fitted again on `fit_on`."""
    outcomes = []
    for m in range(len(fit_on.members)):
        if method.refit is None:
            again = method.fit(fit_on.without(m), settings=settings)
        else:
            again = method.refit(fit_on, fitted, m, settings=settings)
        outcomes.append(method_outcome(method, apply_to.without(m), again, metric=settings.metric))
    return np.stack(outcomes)


def _nested(method: Method, view: View, folds: np.ndarray, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Nested outcomes `(N,)` of all members, and `(M, N)` without each."""
    whole, parts = np.empty(len(view)), np.empty((len(view.members), len(view)))
    for others, held, rows in splits(view, folds):
        fitted = method.fit(others, settings=settings)
        whole[rows] = method_outcome(method, held, fitted, metric=settings.metric)
        parts[:, rows] = _refitted(method, others, held, fitted, settings)
    return whole, parts
