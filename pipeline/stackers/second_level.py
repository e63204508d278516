"""The methods of the second level that need more than floor 1: a support vector machine, and boosted trees."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from pipeline.ensemble.class_weights import LEAST, common_weights
from pipeline.ensemble.contract import Fitted, Method, Predictions, Settings, View, equal_weights
from pipeline.ensemble.means import log_linear
from pipeline.rng import derive, generator
from pipeline.stackers.links import fit_margins, margins
from pipeline.stackers.pairs import fit_pairs, pairs_link
from pipeline.stackers.projection import fit_projection, spread_scores
from pipeline.stackers.squared_hinge import fit_squared_hinge

C = 0.01                # weight of the summed hinge losses against |w|^2 / 2, at shrinkage 1
COMPONENTS = 256        # of more inputs than these, the principal components
PARTS = 3               # of the rows, for margins that the link's rows had no part in


@dataclass(frozen=True, eq=False)
class Machine:
    """The map from roots of probabilities to inputs, the machine on these, and what makes its margins probabilities."""

    project: Callable[[np.ndarray], np.ndarray]
    weights: np.ndarray                     # (P + 1, classes present)
    present: np.ndarray                     # classes with rows
    link: np.ndarray
    pool: np.ndarray                        # (2,) weights of the geometric mean and of the machine


def fit_machine(view: View, *, settings: Settings) -> Fitted:
    """A linear `Machine`, one against the rest with squared hinge loss, on the roots of the members' probabilities.

    Roots, standardised, because they lie close together where a member rules a class out (Hellinger's distance), and a
    machine with one plane for each class would spend itself on such differences of logarithms.

    Margins of the rows of one of PARTS parts, stratified, come from a machine on the others. On these margins the link
    is fitted, and the weights of a log-linear pool of the linked margins and the members' geometric mean, which knows
    more of the many classes out of the question than margins do. The projection, which sees no labels, and the final
    machine are fitted on all rows, with C over `settings.shrinkage`.
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
        link = fit_margins(held, labels)
    pool = common_weights(Predictions(_pair(view, held, link), labels).all())
    return Fitted(None, model=Machine(project, weights, present, link, pool))


def machine_link(view: View, fitted: Fitted) -> np.ndarray:
    """The log-linear pool of the geometric mean and the linked margins, `(n, C)`."""
    model: Machine = fitted.model
    with threadpool_limits(1):
        scores = _margins(model.project(_inputs(view)), model.weights, model.present, view.classes)
    return log_linear(Predictions(_pair(view, scores, model.link), None).all(), Fitted(model.pool))


SECOND_LEVEL: dict[str, Method] = {
    method.name: method
    for method in (
        Method("stack_svm", fit_machine, machine_link, 11),
        Method("stack_lightgbm", fit_pairs, pairs_link, 12),
    )
}


def _inputs(view: View) -> np.ndarray:
    """The roots of the members' probabilities side by side, `(n, m C)` float32."""
    inputs = np.empty((len(view), len(view.members), view.classes), dtype=np.float32)
    for m, member in enumerate(view):
        inputs[:, m] = np.sqrt(member)
    return inputs.reshape(len(view), -1)


def _pair(view: View, scores: np.ndarray, link: np.ndarray) -> np.ndarray:
    """The geometric mean and the linked margins, as two members, `(2, n, C)` float32; nothing below LEAST."""
    mean = log_linear(view, Fitted(equal_weights(len(view.members))))
    return np.maximum(np.stack([mean, margins(scores, link)]), np.float32(LEAST))


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
