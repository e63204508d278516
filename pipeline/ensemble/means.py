"""Arithmetic, geometric and power means of the members, and the linear link that weighted blends share."""

from collections.abc import Callable

import numpy as np

from pipeline.ensemble.contract import Fitted, Settings, View, equal_weights
from pipeline.ensemble.simplex import normalised, softmax
from pipeline.metrics import CLIP

Map = Callable[[np.ndarray], np.ndarray]
EXPONENTS: dict[float, tuple[Map, Map]] = {         # exponent: the map before the mean, and its inverse after
    0.25: (lambda p: np.sqrt(np.sqrt(p)), lambda mean: np.square(np.square(mean))),
    0.5: (np.sqrt, np.square),
    1.0: (lambda p: p, lambda mean: mean),
    2.0: (np.square, np.sqrt),
}


def fit_equal(view: View, *, settings: Settings) -> Fitted:
    """Equal weights; the labels are not looked at."""
    return Fitted(equal_weights(len(view.members)))


def linear(view: View, fitted: Fitted) -> np.ndarray:
    """Weighted arithmetic mean of probabilities: minimises the weighted sum of KL(member || result)."""
    return normalised(weighted_sum(view, fitted.weights))


def log_linear(view: View, fitted: Fitted) -> np.ndarray:
    """Weighted geometric mean, normalised: minimises the weighted sum of KL(result || member).

    Its log loss is never above the weighted mean of the members' log losses (of unclipped members), because the sum of
    a geometric mean over the classes is at most one (Hinton 2002, products of experts). Probabilities are clipped below
    at 1e-15: a zero is strong evidence, not a veto.
    """
    return softmax(weighted_sum(view, fitted.weights, logs))


def logs(probabilities: np.ndarray) -> np.ndarray:
    """Natural logarithms, of nothing below 1e-15."""
    return np.log(np.maximum(probabilities, probabilities.dtype.type(CLIP)))


def fit_exponent(view: View, *, settings: Settings) -> Fitted:
    """Equal weights and the exponent among 1/4, 1/2, 1 and 2 whose power mean has the least log loss.

    The family leads from the geometric mean (exponent 0) over the arithmetic one (1) to the maximum (Hardy,
    Littlewood and Polya 1952, chapter 2).
    """
    weights = equal_weights(len(view.members))
    losses = {exponent: -np.log(np.maximum(_true(view, exponent), CLIP)).mean() for exponent in EXPONENTS}
    return Fitted(weights, power=min(losses, key=lambda exponent: losses[exponent]))


def power_mean(view: View, fitted: Fitted) -> np.ndarray:
    """(weighted mean of p^e)^(1/e) for the exponent e, normalised."""
    before, after = EXPONENTS[fitted.power]
    return normalised(after(weighted_sum(view, fitted.weights, before)))


def weighted_sum(view: View, weights: np.ndarray | None, transform: Map | None = None) -> np.ndarray:
    """Sum over the members of weight times prediction (or its transform), `(n, C)` float32.

    `weights` are `(m,)` or `(m, C)`; members without weight are not read.
    """
    assert weights is not None
    total = np.zeros((len(view), view.classes), dtype=np.float32)                # (n, C)
    used = np.flatnonzero(weights.reshape(len(weights), -1).any(axis=1))
    for place, block in view.only(used).blocks():
        for weight, member in zip(weights[used].astype(np.float32), block, strict=True):
            total[place] += weight * (member if transform is None else transform(member))
    return total


def _true(view: View, exponent: float) -> np.ndarray:
    """The power mean's probability of the true class, `(n,)`; of all rows at once, for the folds to share."""
    memory, key = view.predictions.memory, ("power mean", exponent, view.members.tobytes())
    if key not in memory:
        whole = View(view.predictions, view.members, view.predictions.all().rows)
        mean = power_mean(whole, Fitted(equal_weights(len(view.members)), power=exponent))
        memory[key] = mean[np.arange(len(whole)), whole.labels].astype(np.float64)
    return memory[key][view.rows]
