"""The methods of the second level that need more than floor 1: a support vector machine, and boosted trees."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from pipeline.ensemble.class_weights import floored_logs
from pipeline.ensemble.contract import Fitted, Method, Settings, View
from pipeline.rng import derive, generator
from pipeline.stackers.calibrate import hedged
from pipeline.stackers.links import fit_margins, margins
from pipeline.stackers.pairs import fit_pairs, pairs_link
from pipeline.stackers.projection import fit_projection, spread_scores
from pipeline.stackers.squared_hinge import fit_squared_hinge

C = 0.01                # weight of the summed hinge losses against |w|^2 / 2, at shrinkage 1
COMPONENTS = 256        # of more inputs than these, the principal components
PARTS = 3               # of the rows, for margins that the link's rows had no part in


@dataclass(frozen=True, eq=False)
class Machine:
    """The map from log-probabilities to inputs, the machine's margins on these, and its link's parameters."""

    project: Callable[[np.ndarray], np.ndarray]
    weights: np.ndarray                     # (P + 1, classes present)
    present: np.ndarray                     # classes with rows
    link: np.ndarray
    rows: int


def fit_machine(view: View, *, settings: Settings) -> Fitted:
    """A linear `Machine`, one against the rest with squared hinge loss, on the members' standardised log-probabilities.

    The link is fitted on margins of machines that had no part in them, over PARTS parts of the rows, stratified; the
    projection, which knows no labels, and the final machine are fitted on all. Its C is over `settings.shrinkage`.
    """
    inputs, labels = _inputs(view), view.labels
    seed = derive(settings.seed, "second level", "svm")
    c = C / max(settings.shrinkage, 1e-6)
    with threadpool_limits(1):
        project = _projection(inputs, seed)
        projected = project(inputs)                                              # (n, P)
        held = np.empty((len(labels), view.classes), dtype=np.float32)           # (n, C)
        parts = _parts(labels, seed)
        for part in range(PARTS):
            out = parts == part
            held[out] = _margins(projected[out], *_machine(projected[~out], labels[~out], c), view.classes)
        weights, present = _machine(projected, labels, c)
        return Fitted(None, model=Machine(project, weights, present, fit_margins(held, labels), len(labels)))


def machine_link(view: View, fitted: Fitted) -> np.ndarray:
    """Margins through the link, hedged with one uniform row, `(n, C)`."""
    model: Machine = fitted.model
    with threadpool_limits(1):
        scores = _margins(model.project(_inputs(view)), model.weights, model.present, view.classes)
    return hedged(margins(scores, model.link), model.rows).astype(np.float32)


SECOND_LEVEL: dict[str, Method] = {
    method.name: method
    for method in (
        Method("stack_svm", fit_machine, machine_link, 11),
        Method("stack_lightgbm", fit_pairs, pairs_link, 12),
    )
}


def _inputs(view: View) -> np.ndarray:
    """The members' log-probabilities side by side, `(n, m C)` float32."""
    inputs = np.empty((len(view), len(view.members), view.classes), dtype=np.float32)
    for m, member in enumerate(view):
        inputs[:, m] = floored_logs(member)
    return inputs.reshape(len(view), -1)


def _projection(inputs: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Standardised inputs; of more than COMPONENTS the first principal ones (Halko et al. 2011, algorithm 4.4)."""
    standardise = fit_projection(inputs, pca=None)
    if inputs.shape[1] <= COMPONENTS:
        return standardise
    components = PCA(COMPONENTS, svd_solver="randomized", iterated_power=2, n_oversamples=32, random_state=seed % 2**32)
    components.fit(standardise(inputs))
    return lambda rows: components.transform(standardise(rows)).astype(np.float32)


def _parts(labels: np.ndarray, seed: int) -> np.ndarray:
    """A part in 0..PARTS-1 for each row, `(n,)`, drawn at random but in turn within the classes."""
    shuffled = generator(seed, "parts").permutation(len(labels))
    parts = np.empty(len(labels), dtype=np.int64)
    parts[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(len(labels)) % PARTS
    return parts


def _machine(inputs: np.ndarray, labels: np.ndarray, c: float) -> tuple[np.ndarray, np.ndarray]:
    present, targets = np.unique(labels, return_inverse=True)
    return fit_squared_hinge(inputs, targets, c=c), present


def _margins(inputs: np.ndarray, weights: np.ndarray, present: np.ndarray, classes: int) -> np.ndarray:
    return spread_scores(inputs @ weights[:-1] + weights[-1], present, n_classes=classes)
