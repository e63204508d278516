"""Second level by boosted trees (LightGBM) on (row, class) pairs: all classes share one small model."""

from dataclasses import dataclass

import lightgbm
import numpy as np

from pipeline.ensemble.class_weights import floored_logs
from pipeline.ensemble.contract import Fitted, Settings, View, equal_weights
from pipeline.ensemble.means import weighted_sum
from pipeline.ensemble.simplex import class_prior, softmax
from pipeline.metrics import log_loss
from pipeline.rng import derive
from pipeline.stackers.inner import watched_rows

CANDIDATES = 10         # classes of a row that the trees may reorder
WATCHED = 0.2           # share of the rows that is not trained on but ends the boosting
ROUNDS, PATIENCE = 300, 20
TREES = {
    "learning_rate": 0.1, "num_leaves": 15, "min_sum_hessian_in_leaf": 5.0, "min_data_in_leaf": 50, "max_bin": 63,
    "deterministic": True, "force_row_wise": True, "num_threads": 1, "metric": "None", "verbosity": -1,
}


@dataclass(frozen=True, eq=False)
class PairTrees:
    """Trees on pairs, and the classes' log priors `(C,)` that they were shown."""

    booster: lightgbm.Booster
    log_prior: np.ndarray


def fit_pairs(view: View, *, settings: Settings) -> Fitted:
    """`PairTrees` that add to log g, g the members' geometric mean, of a row's CANDIDATES most probable classes.

    One example is a (row, class) pair, so all classes share the trees, and rare ones are no problem of their own. The
    loss is the log loss of the true class among the row's candidates; rows whose class is not among them teach nothing.
    Leaves are shrunk by an L2 penalty of `settings.shrinkage`. Rows of the view that are held back end the boosting.
    """
    log_prior = np.log(class_prior(view.labels, view.classes))
    mean = _mean_logs(view)
    candidates = _candidates(mean)                                               # (n, K)
    hits = candidates == view.labels[:, None]
    inputs = _pairs(view, mean, candidates, log_prior)                           # (n, K, F)
    offset = np.take_along_axis(mean, candidates, axis=1)                        # (n, K)
    seed = derive(settings.seed, "second level", "pairs")
    usable, watched = hits.any(axis=1), watched_rows(view.labels, share=WATCHED, seed=seed)
    taught, held = (
        lightgbm.Dataset(inputs[rows].reshape(-1, inputs.shape[2]), hits[rows].ravel(), init_score=offset[rows].ravel())
        for rows in (usable & ~watched, usable & watched)
    )
    shape = (-1, candidates.shape[1])

    def slopes(scores: np.ndarray, data: lightgbm.Dataset) -> tuple[np.ndarray, np.ndarray]:
        probabilities = softmax(scores.reshape(shape)).ravel()
        return probabilities - data.get_label(), probabilities * (1 - probabilities)

    def loss(scores: np.ndarray, data: lightgbm.Dataset) -> tuple[str, float, bool]:
        truth = np.asarray(data.get_label()).reshape(shape).argmax(axis=1)
        return "log loss", log_loss(softmax(scores.reshape(shape)), truth), False

    booster = lightgbm.train(
        {**TREES, "objective": slopes, "lambda_l2": settings.shrinkage, "seed": seed % 2**31},
        taught, ROUNDS, valid_sets=[held], feval=loss,
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    return Fitted(None, model=PairTrees(booster, log_prior), note=f"{booster.best_iteration} trees")


def pairs_link(view: View, fitted: Fitted) -> np.ndarray:
    """The geometric mean, with the probability of each row's candidates shared out anew among them."""
    model: PairTrees = fitted.model
    mean = _mean_logs(view)
    probabilities, candidates = softmax(mean), _candidates(mean)
    inputs = _pairs(view, mean, candidates, model.log_prior)
    added = model.booster.predict(inputs.reshape(-1, inputs.shape[2]), raw_score=True, num_threads=1)
    scores = np.take_along_axis(mean, candidates, axis=1) + np.asarray(added, np.float32).reshape(candidates.shape)
    mass = np.take_along_axis(probabilities, candidates, axis=1).sum(axis=1, keepdims=True)
    np.put_along_axis(probabilities, candidates, mass * softmax(scores), axis=1)
    return probabilities


def _mean_logs(view: View) -> np.ndarray:
    return weighted_sum(view, equal_weights(len(view.members)), floored_logs)    # (n, C)


def _candidates(mean: np.ndarray) -> np.ndarray:
    """The most probable classes `(n, K)`, in descending order."""
    return np.argsort(-mean, axis=1, kind="stable")[:, :CANDIDATES]


def _pairs(view: View, mean: np.ndarray, candidates: np.ndarray, log_prior: np.ndarray) -> np.ndarray:
    """What the trees see of each pair, `(n, K, F)` float32.

    Each member's log-probability of the class less the mean one; that, its distance to the row's largest, its place,
    the deviation over the members, the share of votes, the log prior; and of the row the entropy of the geometric
    mean, the largest share of votes and the number of classes with one.
    """
    members = len(view.members)
    chosen = np.take_along_axis(mean, candidates, axis=1)                        # (n, K)
    inputs = np.empty((*candidates.shape, members + 9), dtype=np.float32)
    for m, member in enumerate(view):
        inputs[:, :, m] = np.take_along_axis(floored_logs(member), candidates, axis=1) - chosen
    votes = np.zeros_like(mean)                                                  # (n, C)
    for top in view.tops:
        votes[np.arange(len(view)), top] += 1 / members
    probabilities = softmax(mean)
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-15))).sum(axis=1)
    of_pairs = (chosen, chosen[:, :1] - chosen, np.arange(candidates.shape[1])[None],                   # (n, K)
                inputs[:, :, :members].std(axis=2), np.take_along_axis(votes, candidates, axis=1),
                log_prior[candidates])
    of_rows = (entropy[:, None], votes.max(axis=1, keepdims=True), (votes > 0).sum(axis=1, keepdims=True))
    for place, values in enumerate((*of_pairs, *of_rows), start=members):
        inputs[:, :, place] = values
    return inputs
