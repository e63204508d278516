"""Which method is final, and which members are too poor to take part."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.ensemble.bootstrap import Interval, paired_bootstrap
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.simplex import class_prior
from pipeline.metrics import METRICS, Metric


@dataclass(frozen=True)
class Choice:
    """The final method, the one with the best nested score, and each method's loss minus the best one's."""

    final: str
    best: str
    differences: dict[str, Interval]


def choose(
    nested: Mapping[str, np.ndarray], labels: np.ndarray, *, metric: Metric, draws: int, level: float, seed: int
) -> Choice:
    """The simplest method whose nested loss is within one standard error of the best (Breiman et al. 1984, 3.4.3).

    `nested` holds each method's nested predictions `(N, C)`. The standard error is that of the paired
    difference to the best, from the bootstrap that `draws`, `level` and `seed` describe.
    """
    by_simplicity = sorted(nested, key=lambda name: METHODS[name].simplicity)
    best = min(by_simplicity, key=lambda name: metric.loss(nested[name], labels))
    differences = {
        name: paired_bootstrap(
            nested[name], nested[best], metric=metric, labels=labels, draws=draws, level=level, seed=seed
        )
        for name in by_simplicity
    }
    final = next(n for n in by_simplicity if differences[n].difference <= differences[n].standard_error)
    return Choice(final, best, differences)


def worse_than_prior(stack: np.ndarray, labels: np.ndarray, *, folds: np.ndarray) -> list[bool]:
    """Whether each member's out-of-fold log loss exceeds that of the class prior; such members are defects.

    The prior of a fold is the class frequencies of the other folds with Laplace's rule, so it has not seen the fold.
    """
    log_loss = METRICS["log_loss"].score
    prior = np.empty(stack.shape[1:])                                            # (N, C)
    for fold in np.unique(folds):
        prior[folds == fold] = class_prior(labels[folds != fold], stack.shape[2])
    limit = log_loss(prior, labels)
    return [log_loss(member, labels) > limit for member in stack]
