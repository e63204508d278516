"""Leave-one-out: what the ensemble scores without each member, optimistically and honestly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.ensemble.bootstrap import paired_bootstrap
from pipeline.ensemble.contract import Method, Settings, drop
from pipeline.ensemble.nested import embedded_folds
from pipeline.ensemble.simplex import without_each

NEGLIGIBLE = 5e-5       # loss: half of the last digit that is printed
Verdict = Literal["helps", "hurts", "not distinguishable"]


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
    method: Method, stack: np.ndarray, *, labels: np.ndarray, folds: np.ndarray, names: Sequence[str],
    settings: Settings, draws: int, level: float, seed: int,
) -> list[LeftOut]:
    """One row per member of `stack (M, N, C)`, in its order; an ensemble of one member has none.

    Nothing is embedded again per left-out member. `draws`, `level` and `seed` are `paired_bootstrap`'s.
    """
    if len(stack) == 1:
        return []
    metric = settings.metric
    weights, kept, refitted = _in_sample(method, stack, labels, settings)
    whole, parts = _nested(method, stack, labels, folds, settings)
    rows = []
    for m, name in enumerate(names):
        change = paired_bootstrap(
            parts[m], whole, metric=metric, labels=labels, draws=draws, level=level, seed=seed
        )
        rows.append(LeftOut(
            name, float(weights[m]), kept[m], refitted[m], metric.score(parts[m], labels),
            change.difference, change.low, change.high, verdict(change.low, change.high),
        ))
    return rows


def verdict(low: float, high: float) -> Verdict:
    """What an interval of the loss without the member minus the loss with it says about the member.

    An interval that lies within what the tables round away says nothing, whatever its sign.
    """
    if low > 0 and high > NEGLIGIBLE:
        return "helps"
    return "hurts" if high < 0 and low < -NEGLIGIBLE else "not distinguishable"


def _in_sample(
    method: Method, stack: np.ndarray, labels: np.ndarray, settings: Settings
) -> tuple[np.ndarray, list[float], list[float]]:
    """Weights `(M,)` of all members, and the scores without each: weights kept, and fitted again."""
    prepared = method.prepare(stack)
    embedded = method.embed(prepared, prepared)
    fitted = method.fit(embedded, labels, settings=settings)
    kept, refitted = [], []
    for m, rest in enumerate(without_each(embedded)):
        again = method.fit(rest, labels, settings=settings)
        kept.append(settings.metric.score(method.combine(rest, drop(fitted, m)), labels))
        refitted.append(settings.metric.score(method.combine(rest, again), labels))
    return fitted.weights, kept, refitted


def _nested(
    method: Method, stack: np.ndarray, labels: np.ndarray, folds: np.ndarray, settings: Settings
) -> tuple[np.ndarray, np.ndarray]:
    """Nested predictions `(N, C)` of all members, and `(M, N, C)` without each."""
    whole = np.empty(stack.shape[1:], dtype=stack.dtype)                         # (N, C)
    parts = np.empty_like(stack)                                                 # (M, N, C)
    for fold in embedded_folds(method, stack, labels=labels, folds=folds):
        whole[fold.rows] = method.combine(fold.apply, method.fit(fold.fit, fold.labels, settings=settings))
        pairs = zip(without_each(fold.fit), without_each(fold.apply), strict=True)
        for m, (rest_fit, rest_apply) in enumerate(pairs):
            fitted = method.fit(rest_fit, fold.labels, settings=settings)
            parts[m, fold.rows] = method.combine(rest_apply, fitted)
    return whole, parts
