"""No row's label reaches its own prediction, and members without signal score at chance."""

import numpy as np
import pytest
from ensemble_cases import members

from pipeline.ensemble.choose import worse_than_prior
from pipeline.ensemble.contract import Fitted, Method, Settings, equal_weights
from pipeline.ensemble.means import linear
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.nested import in_sample_predictions, nested_best_single, nested_predictions
from pipeline.metrics import METRICS, Metric, log_loss

SMALL = Settings(greedy_steps=8)
every_method = pytest.mark.parametrize("name", METHODS)


@every_method
def test_labels_of_a_fold_do_not_reach_its_predictions(name: str) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.4)
    changed = labels.copy()
    changed[folds == 2] = (labels[folds == 2] + 1) % 5
    before = nested_predictions(METHODS[name], stack, labels=labels, folds=folds, settings=SMALL)
    after = nested_predictions(METHODS[name], stack, labels=changed, folds=folds, settings=SMALL)
    assert before[folds == 2].tobytes() == after[folds == 2].tobytes()
    if name in ("rank", "weighted_vote", "blend"):
        assert (before[folds != 2] != after[folds != 2]).any()


def test_labels_of_a_fold_do_not_choose_its_best_single() -> None:
    stack, labels, folds = members(1.0, 1.01, 0.99)
    for metric in METRICS.values():
        changed = labels.copy()
        changed[folds == 1] = (labels[folds == 1] + 1) % 5
        before = nested_best_single(stack, labels, folds=folds, metric=metric)
        after = nested_best_single(stack, changed, folds=folds, metric=metric)
        assert before[folds == 1].tobytes() == after[folds == 1].tobytes()


def test_a_spy_sees_the_other_folds_only_and_every_row_once() -> None:
    rows = 40
    labels, folds = np.arange(rows), np.arange(rows) % 4
    stack = np.broadcast_to(np.arange(rows, dtype=np.float32)[None, :, None], (2, rows, 3)).copy()
    seen: list[tuple[set[int], set[int]]] = []

    def embed(reference: np.ndarray, asked: np.ndarray) -> np.ndarray:
        seen.append((set(reference[0, :, 0].astype(int)), set(asked[0, :, 0].astype(int))))
        return asked

    def fit(embedded: np.ndarray, fit_labels: np.ndarray, *, settings: Settings) -> Fitted:
        assert embedded[0, :, 0].astype(int).tolist() == fit_labels.tolist()
        seen.append((set(fit_labels.tolist()), set()))
        return Fitted(equal_weights(2))

    def combine(embedded: np.ndarray, fitted: Fitted) -> np.ndarray:
        return embedded[0]

    spy = Method("spy", lambda stack: stack, embed, fit, combine, 0)
    found = nested_predictions(spy, stack, labels=labels, folds=folds, settings=SMALL)
    assert found[:, 0].tolist() == labels.tolist()
    for fold in range(4):
        inside, others = set(labels[folds == fold].tolist()), set(labels[folds != fold].tolist())
        assert seen[3 * fold:3 * fold + 3] == [(others, others), (others, inside), (others, set())]


def test_in_sample_predictions_are_embed_fit_combine() -> None:
    stack, labels, _ = members(1.5, 1.0)
    fitted, predictions = in_sample_predictions(METHODS["blend"], stack, labels=labels, settings=SMALL)
    assert (predictions == linear(stack, fitted)).all()


@every_method
def test_shuffled_labels_score_at_chance(name: str) -> None:
    stack, labels, folds = members(2.0, 1.5, 1.0, rows=2000)
    shuffled = np.random.default_rng(1).permutation(labels)
    nested = nested_predictions(METHODS[name], stack, labels=shuffled, folds=folds, settings=SMALL)
    assert log_loss(nested, shuffled) >= np.log(5) - 0.01
    assert METRICS["accuracy"].score(nested, shuffled) == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 2000))


@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_best_single_is_the_member_that_is_clearly_best(metric: Metric) -> None:
    stack, labels, folds = members(0.5, 4.0, 1.0, classes=8)
    assert (nested_best_single(stack, labels, folds=folds, metric=metric) == stack[1]).all()


def test_members_worse_than_the_prior_are_named() -> None:
    stack, labels, folds = members(1.5, 0.0)
    prior = np.full_like(stack[0], 0.2)
    smoothed = 0.9 * stack[0] + 0.1 * prior
    assert worse_than_prior(np.array([stack[0], stack[1], smoothed]), labels, folds=folds) == [False, True, False]


def test_the_prior_of_a_fold_has_not_seen_the_fold() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1])
    folds = np.array([0, 0, 0, 1, 1, 1])
    honest = -np.log(1 / 5)                     # each fold's prior gives (0 + 1) / (3 + 2) to its only class
    for loss, expected in ((honest - 1e-6, False), (honest + 1e-6, True)):
        p = np.exp(-loss)
        member = np.where(np.eye(2)[labels] == 1, p, 1 - p)
        assert worse_than_prior(member[None], labels, folds=folds) == [expected]
