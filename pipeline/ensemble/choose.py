"""Which method is final, what can be said of each, and which members are too poor to take part."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.ensemble.bootstrap import Interval, Sample, intervals, simultaneous
from pipeline.ensemble.contract import View
from pipeline.ensemble.simplex import class_prior
from pipeline.metrics import row_log_loss

NEGLIGIBLE = 5e-5       # loss: half of the last digit that is printed
CLEARLY = 2.0           # standard errors by which a member must beat the class prior
Standing = Literal["better", "worse", "not distinguishable"]


@dataclass(frozen=True)
class Choice:
    """The final method, the one with the best nested score, and each method's loss minus the best one's."""

    final: str
    best: str
    differences: dict[str, Interval]


def choose(nested: Mapping[str, np.ndarray], simplicity: Mapping[str, float], *, sample: Sample) -> Choice:
    """The simplest method whose nested loss is within one standard error of the best (Breiman et al. 1984, 3.4.3).

    `nested` holds each method's nested outcomes `(N,)`. The standard error is that of the paired difference to the
    best, from the bootstrap.
    """
    names = sorted(nested, key=lambda name: simplicity[name])
    outcomes = np.stack([nested[name] for name in names])
    best = int(np.argmin([interval.difference for interval in intervals(outcomes, sample)]))
    found = intervals(outcomes, sample, against=outcomes[best])
    differences = dict(zip(names, found, strict=True))
    final = next(name for name in names if differences[name].difference <= differences[name].standard_error)
    return Choice(final, names[best], differences)


def standings(
    nested: Mapping[str, np.ndarray], references: Mapping[str, np.ndarray], *, sample: Sample
) -> dict[str, dict[str, tuple[Interval, Standing]]]:
    """For each method and each reference whether the method is better, with all intervals holding together.

    The intervals are `bootstrap.simultaneous`: corrected for the number of methods times references.
    """
    keys = [(name, other) for name in nested for other in references]
    found = simultaneous([(nested[name], references[other]) for name, other in keys], sample)
    table: dict[str, dict[str, tuple[Interval, Standing]]] = {name: {} for name in nested}
    for (name, other), interval in zip(keys, found, strict=True):
        table[name][other] = interval, standing(interval.low, interval.high)
    return table


def standing(low: float, high: float) -> Standing:
    """What an interval of a difference of losses says; one that lies within what the tables round away says nothing."""
    if high < 0 and low < -NEGLIGIBLE:
        return "better"
    return "worse" if low > 0 and high > NEGLIGIBLE else "not distinguishable"


def no_better_than_prior(view: View, *, folds: np.ndarray) -> list[bool]:
    """Whether each member fails to beat the class prior's log loss by two standard errors, out of fold.

    The prior of a fold is the class frequencies of the other folds with Laplace's rule, so it has not seen the fold.
    The standard error is that of the mean of the rows' differences.
    """
    labels = view.labels
    prior = np.empty((len(view), view.classes))                                  # (N, C)
    for fold in np.unique(folds):
        prior[folds == fold] = class_prior(labels[folds != fold], view.classes)
    known = row_log_loss(prior, labels)                                          # (N,)
    gains = [known - row_log_loss(member, labels) for member in view]
    return [bool(gain.mean() < CLEARLY * gain.std() / np.sqrt(len(gain))) for gain in gains]
