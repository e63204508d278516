"""Support vector machine: one against the rest with squared hinge loss, linear or with an RBF kernel."""

from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from pipeline.config.stacker import SvmConfig
from pipeline.metrics import log_loss
from pipeline.stackers.inner import watched_rows
from pipeline.stackers.kernels import Map, fit_exact, fit_nystroem, median_gamma
from pipeline.stackers.links import fit_margins, margins
from pipeline.stackers.projection import fit_projection, spread_scores
from pipeline.stackers.squared_hinge import fit_squared_hinge

GRID = {"linear": (0.05, 0.2, 0.8), "rbf": (0.3, 1.0, 3.0), "exact_rbf": (0.3, 1.0, 3.0)}     # of c: auto
WATCHED = 0.25          # share of the rows that c: auto watches


def fit(
    features: np.ndarray, labels: np.ndarray, *, n_classes: int, config: SvmConfig, seed: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Decision values of one machine for each class; see registry.load.

    `features` `(n, D)`, `labels` `(n,)` in 0..n_classes-1; scores `(m, C)` float32.
    """
    with threadpool_limits(1):
        present, targets = np.unique(labels, return_inverse=True)
        c = _best_c(features, targets, config, seed) if config.c == "auto" else config.c
        project = fit_projection(features, pca=config.pca)
        inputs = project(features)                                                   # (n, P)
        kernel = _kernel(inputs, config, seed)
        weights = fit_squared_hinge(kernel(inputs), targets, c=c)                    # (F + 1, classes present)

    def predict(rows: np.ndarray) -> np.ndarray:
        with threadpool_limits(1):
            mapped = kernel(project(rows))
            return spread_scores(mapped @ weights[:-1] + weights[-1], present, n_classes=n_classes)

    return predict


def _best_c(features: np.ndarray, targets: np.ndarray, config: SvmConfig, seed: int) -> float:
    """The value of the grid with the least log loss of watched rows, by a machine fitted on the others.

    Their margins are calibrated on themselves: three of the link's parameters and a shrunken bias per class are too few
    to hide a bad c. The middle of the grid where there are no rows to watch.
    """
    grid = GRID[config.kernel]
    watched = watched_rows(targets, share=WATCHED, seed=seed)
    if not watched.any():
        return grid[1]

    def loss(c: float) -> float:
        section = config.model_copy(update={"c": c})
        predict = fit(features[~watched], targets[~watched], n_classes=int(targets.max()) + 1, config=section,
                      seed=seed)
        scores = predict(features[watched])
        return log_loss(margins(scores, fit_margins(scores, targets[watched])), targets[watched])

    return min(grid, key=loss)


def _kernel(inputs: np.ndarray, config: SvmConfig, seed: int) -> Map:
    """The map in which the machine is linear."""
    if config.kernel == "linear":
        return lambda rows: rows
    gamma = median_gamma(inputs, seed=seed) if config.gamma == "auto" else config.gamma
    if config.kernel == "rbf":
        return fit_nystroem(inputs, gamma=gamma, components=config.components, seed=seed)
    return fit_exact(inputs, gamma=gamma)
