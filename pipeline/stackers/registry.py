"""Stackers by kind, found lazily, so that a stage depends only on the file of the stacker that it runs."""

from collections.abc import Callable
from importlib import import_module

import numpy as np

from pipeline.errors import UserError, listed, nearest

STACKERS = {
    "svm": "pipeline.stackers.svm:fit",
    "lightgbm": "pipeline.stackers.lightgbm_trees:fit",
}

Predictor = Callable[[np.ndarray], np.ndarray]      # features (m, D) -> scores (m, C) float32, see `load`


def load(kind: str) -> Callable[..., Predictor]:
    """The fit function of a kind: `fit(features (n, D), labels (n,), *, n_classes, config, seed) -> Predictor`.

    Everything, scaling and projection included, is fitted on the rows given, with one thread and to the same bytes
    each time. Scores are finite, and links.LINKS turns them into probabilities; a class that no row has comes last.
    """
    module, function = _entry(kind).split(":")
    fit: Callable[..., Predictor] = getattr(import_module(module), function)
    return fit


def module_of(kind: str) -> str:
    """The module of a kind, for a stage's code dependencies."""
    return _entry(kind).split(":")[0]


def _entry(kind: str) -> str:
    if kind not in STACKERS:
        raise UserError(f"unknown stacker kind '{kind}'; allowed: {listed(STACKERS)}{nearest(kind, STACKERS)}")
    return STACKERS[kind]
