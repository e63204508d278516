"""No row's label reaches its own prediction, and members without signal score at chance."""

from dataclasses import replace

import numpy as np
import pytest
from ensemble_cases import NAMES, SMALL, members, method, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ensemble.choose import no_better_than_prior
from pipeline.ensemble.contract import Fitted, Method, Settings, View, equal_weights
from pipeline.ensemble.means import linear
from pipeline.ensemble.nested import (
    in_sample,
    nested_best_single,
    nested_outcome,
    nested_predictions,
    other_folds,
    splits,
)
from pipeline.ensemble.outcomes import outcome
from pipeline.metrics import METRICS, Metric, log_loss

every_method = pytest.mark.parametrize("name", NAMES)
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


def _flipped(labels: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The same labels, all of the held rows wrong."""
    return np.where(held, (labels + 1) % 5, labels)


@every_method
def test_labels_of_a_fold_do_not_reach_its_predictions(name: str) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.4)
    before, after = (nested_predictions(method(name), view_of(stack, given), folds=folds, settings=SMALL)
                     for given in (labels, _flipped(labels, folds == 2)))
    assert before[folds == 2].tobytes() == after[folds == 2].tobytes()
    reached = (before[folds != 2] != after[folds != 2]).any()
    assert reached == method(name).learns


@every_metric
@pytest.mark.parametrize("name", ["greedy", "greedy+vector"])
def test_labels_of_a_fold_do_not_reach_its_picks_whatever_the_metric(name: str, metric: Metric) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.4, classes=8)
    chosen = replace(SMALL, metric=metric, greedy_bags=3)
    before, after = (nested_predictions(method(name), view_of(stack, given), folds=folds, settings=chosen)
                     for given in (labels, _flipped(labels, folds == 2)))
    assert before[folds == 2].tobytes() == after[folds == 2].tobytes()


@every_metric
def test_labels_of_a_fold_do_not_choose_its_best_single(metric: Metric) -> None:
    stack, labels, folds = members(1.0, 1.01, 0.99)
    chosen = replace(SMALL, metric=metric)
    before, after = (nested_best_single(view_of(stack, given), folds=folds, settings=chosen)
                     for given in (labels, _flipped(labels, folds == 1)))
    assert before[folds == 1].tobytes() == after[folds == 1].tobytes()


@pytest.mark.parametrize("folds", [np.arange(40) % 4, np.arange(40) // 10, np.arange(40) // 11],
                         ids=["scattered", "in order", "uneven"])
def test_a_spy_sees_the_other_folds_only_and_every_row_once(folds: np.ndarray) -> None:
    labels = np.arange(40)
    stack = np.broadcast_to(np.arange(40, dtype=np.float32)[None, :, None], (2, 40, 40)).copy()
    fitted_on: list[list[int]] = []
    asked: list[list[int]] = []

    def fit(view: View, *, settings: Settings) -> Fitted:
        fitted_on.append(view.labels.tolist())
        assert next(iter(view))[:, 0].astype(int).tolist() == view.labels.tolist()
        return Fitted(equal_weights(2))

    def combine(view: View, fitted: Fitted) -> np.ndarray:
        asked.append(next(iter(view))[:, 0].astype(int).tolist())
        return next(iter(view))

    view, spy = view_of(stack, labels), Method("spy", fit, combine, 0)
    found = nested_predictions(spy, view, folds=folds, settings=SMALL)
    assert found[:, 0].tolist() == labels.tolist()
    nested_outcome(spy, view, folds=folds, settings=SMALL)
    assert fitted_on == 2 * [labels[folds != fold].tolist() for fold in range(4)]
    assert asked == 2 * [labels[folds == fold].tolist() for fold in range(4)]
    places = [rows for _, _, rows in splits(view, folds)]
    assert sorted(np.concatenate(places).tolist()) == labels.tolist()


@every_method
def test_folds_in_order_are_slices_with_the_predictions_of_scattered_ones(name: str) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.4)
    order = np.argsort(folds, kind="stable")
    scattered = nested_predictions(method(name), view_of(stack, labels), folds=folds, settings=SMALL)
    ordered = view_of(stack[:, order], labels[order])
    assert all(isinstance(held.rows, slice) for _, held, _ in splits(ordered, folds[order]))
    found = nested_predictions(method(name), ordered, folds=folds[order], settings=SMALL)
    assert found == pytest.approx(scattered[order], abs=2e-4)


@every_metric
@every_method
def test_nested_outcomes_are_those_of_the_nested_predictions(name: str, metric: Metric) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.4, classes=8)
    view, chosen = view_of(stack, labels), replace(SMALL, metric=metric)
    predictions = nested_predictions(method(name), view, folds=folds, settings=chosen)
    found = nested_outcome(method(name), view, folds=folds, settings=chosen)
    assert found == pytest.approx(outcome(predictions, labels, metric=metric), abs=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if not method(name).learns])
def test_what_does_not_learn_is_the_same_nested_and_in_sample(name: str) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.4)
    view, chosen = view_of(stack, labels), method(name)
    whole = in_sample(chosen, view, settings=SMALL)[1]
    assert (nested_predictions(chosen, view, folds=folds, settings=SMALL) == whole).all()
    by_fold = nested_predictions(replace(chosen, learns=True), view, folds=folds, settings=SMALL)
    assert (by_fold == whole).all()


def test_in_sample_is_fit_then_combine() -> None:
    stack, labels, _ = members(1.5, 1.0)
    fitted, predictions = in_sample(method("blend"), view_of(stack, labels), settings=SMALL)
    assert (predictions == linear(view_of(stack), fitted)).all()


@every_method
def test_shuffled_labels_score_at_chance(name: str) -> None:
    stack, labels, folds = members(2.0, 1.5, 1.0, rows=2000)
    shuffled = np.random.default_rng(1).permutation(labels)
    nested = nested_predictions(method(name), view_of(stack, shuffled), folds=folds, settings=SMALL)
    assert log_loss(nested, shuffled) >= np.log(5) - 0.01
    assert METRICS["accuracy"].score(nested, shuffled) == pytest.approx(0.2, abs=4 * np.sqrt(0.2 * 0.8 / 2000))


@every_metric
def test_best_single_is_the_member_that_is_clearly_best(metric: Metric) -> None:
    stack, labels, folds = members(0.5, 4.0, 1.0, classes=8)
    found = nested_best_single(view_of(stack, labels), folds=folds, settings=replace(SMALL, metric=metric))
    assert (found == stack[1]).all()


def test_members_that_do_not_beat_the_prior_are_named() -> None:
    stack, labels, folds = members(1.5, 0.0)
    smoothed = 0.9 * stack[0] + np.float32(0.1 * 0.2)
    view = view_of(np.array([stack[0], stack[1], smoothed]), labels)
    assert no_better_than_prior(view, folds=folds) == [False, True, False]


def test_a_member_that_says_nothing_does_not_beat_the_prior_by_luck() -> None:
    """The prior itself, a little wrong at random: better than the prior in some draws, never clearly in these."""
    _, labels, folds = members(0.0, rows=500)
    random = np.random.default_rng(0)
    blank = random.dirichlet(np.full(5, 3000.0), size=(20, 500)).astype(np.float32)
    view = view_of(blank, labels)
    assert min(log_loss(member, labels) for member in blank) < np.log(5) - 1e-4
    assert np.mean(no_better_than_prior(view, folds=folds)) >= 0.9


def test_the_prior_of_a_fold_has_not_seen_the_fold() -> None:
    labels = folds = np.array([0, 0, 0, 1, 1, 1])
    honest = -np.log(1 / 5)                     # each fold's prior gives (0 + 1) / (3 + 2) to its only class
    for loss, expected in ((honest - 1e-6, False), (honest + 1e-6, True)):
        p = np.exp(-loss)
        member = np.where(np.eye(2)[labels] == 1, p, 1 - p)
        assert no_better_than_prior(view_of(member[None], labels), folds=folds) == [expected]


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(60, 200), k=st.integers(2, 5), seed=st.integers(0, 10**6))
def test_other_folds_are_an_even_partition_that_the_seed_decides(rows: int, k: int, seed: int) -> None:
    def dealt(repeat: int, seed: int) -> np.ndarray:
        return other_folds(np.arange(rows), k=k, repeat=repeat, seed=seed)

    folds = dealt(1, seed)
    counts = np.bincount(folds, minlength=k)
    assert len(counts) == k
    assert counts.max() - counts.min() <= 1
    assert (dealt(1, seed) == folds).all()
    assert (dealt(2, seed) != folds).any()
    assert (dealt(1, seed + 1) != folds).any()


@settings(deadline=None, max_examples=30)
@given(groups=st.integers(10, 60), seed=st.integers(0, 10**6))
def test_other_folds_never_split_a_cluster(groups: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    clusters = random.permutation(np.concatenate([np.arange(groups), random.integers(0, groups, size=40)]))
    folds = other_folds(clusters, k=3, repeat=1, seed=seed)
    by_cluster = [np.unique(folds[clusters == cluster]) for cluster in range(groups)]
    assert all(len(found) == 1 for found in by_cluster)
    counts = np.bincount([found[0] for found in by_cluster], minlength=3)
    assert counts.max() - counts.min() <= 1
