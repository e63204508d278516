"""Ensembles of 1, 2, ... members against a brute-force search, in sample and nested."""

from dataclasses import replace

import numpy as np
import pytest
from ensemble_cases import SMALL, members, method, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ensemble.contract import Settings
from pipeline.ensemble.nested import in_sample, nested_predictions
from pipeline.ensemble.paths import Order, added, path, removed
from pipeline.metrics import METRICS, log_loss

ORDERS = {"added": added, "removed": removed}
CLOSE = (0.85, 0.85, 0.85, 0.3)         # so much alike that the folds disagree about the order
every_order = pytest.mark.parametrize("order", ORDERS.values(), ids=list(ORDERS))


def _loss(stack: np.ndarray, labels: np.ndarray, chosen: list[int]) -> float:
    """Log loss of the even mean of the chosen members."""
    return log_loss(stack[chosen].mean(axis=0, dtype=np.float64), labels)


@settings(deadline=None, max_examples=30)
@given(strengths=st.lists(st.floats(0, 2), min_size=1, max_size=6), seed=st.integers(0, 10**6))
def test_members_are_added_where_the_even_mean_gains_most(strengths: list[float], seed: int) -> None:
    stack, labels, _ = members(*strengths, rows=50, seed=seed)
    order: list[int] = []
    while len(order) < len(stack):
        left = [m for m in range(len(stack)) if m not in order]
        order.append(min(left, key=lambda m: _loss(stack, labels, [*order, m])))
    assert added(view_of(stack, labels).true).tolist() == order


@settings(deadline=None, max_examples=30)
@given(strengths=st.lists(st.floats(0, 2), min_size=1, max_size=6), seed=st.integers(0, 10**6))
def test_members_are_removed_where_the_even_mean_loses_least(strengths: list[float], seed: int) -> None:
    stack, labels, _ = members(*strengths, rows=50, seed=seed)
    left, gone = list(range(len(stack))), []
    while len(left) > 1:
        gone.append(min(left, key=lambda m: _loss(stack, labels, [other for other in left if other != m])))
        left.remove(gone[-1])
    assert removed(view_of(stack, labels).true).tolist() == [*left, *reversed(gone)]


def test_ties_go_to_the_earlier_member() -> None:
    true = np.repeat(np.random.default_rng(0).random((40, 1)), 4, axis=1)
    assert added(true).tolist() == [0, 1, 2, 3]
    assert removed(true).tolist() == [3, 2, 1, 0]


def test_an_order_survives_members_that_rule_the_truth_out() -> None:
    true = np.array([[1e-15, 1.0, 0.5], [1e-15, 1e-15, 0.5]])
    assert added(true).tolist() == [2, 1, 0]
    assert removed(true).tolist() == [2, 1, 0]


def _nested(name: str, order: Order, stack: np.ndarray, labels: np.ndarray, folds: np.ndarray,
            chosen: Settings) -> list[float]:
    """Scores of 1, 2, ... members; nothing but the other folds' rows exists when order and weights are made."""
    predictions = np.empty((len(stack), *stack[0].shape))                        # (M, N, C)
    for fold in np.unique(folds):
        others, held = folds != fold, folds == fold
        places = order(view_of(stack[:, others], labels[others]).true)
        for size in range(1, len(stack) + 1):
            some = np.sort(places[:size])
            fitted = method(name).fit(view_of(stack[some][:, others], labels[others]), settings=chosen)
            predictions[size - 1, held] = method(name).combine(view_of(stack[some][:, held]), fitted)
    return [chosen.metric.score(each, labels) for each in predictions]


@every_order
@pytest.mark.parametrize("metric", ["log_loss", "macro_f1"])
@pytest.mark.parametrize("name", ["uniform", "geometric", "rank", "vote", "greedy", "blend", "class_weights",
                                  "blend+temperature"])
def test_a_path_is_that_of_ensembles_built_by_themselves(name: str, metric: str, order: Order) -> None:
    stack, labels, folds = members(*CLOSE, rows=120, classes=7, seed=3)
    chosen, view = replace(SMALL, metric=METRICS[metric]), view_of(stack, labels)
    steps, whole = path(method(name), order, view, folds=folds, settings=chosen), order(view.true)
    assert [step.members for step in steps] == [1, 2, 3, 4]
    assert [step.moved for step in steps] == whole.tolist()
    in_hindsight = [in_sample(method(name), view_of(stack[np.sort(whole[:size])], labels), settings=chosen)[1]
                    for size in (1, 2, 3, 4)]
    expected = [chosen.metric.score(each, labels) for each in in_hindsight]
    assert [step.in_sample for step in steps] == pytest.approx(expected, abs=1e-5)
    expected = _nested(name, order, stack, labels, folds, chosen)
    assert [step.nested for step in steps] == pytest.approx(expected, abs=1e-5)


@every_order
def test_folds_differ_in_their_order_so_that_a_path_in_hindsight_would_show(order: Order) -> None:
    stack, labels, folds = members(*CLOSE, rows=120, classes=7, seed=3)
    view = view_of(stack, labels)
    assert len({tuple(order(view.true[folds != fold])) for fold in range(4)}) > 1
    steps = path(method("uniform"), order, view, folds=folds, settings=SMALL)
    assert any(step.nested != pytest.approx(step.in_sample, abs=1e-6) for step in steps)


@every_order
@pytest.mark.parametrize("name", ["uniform", "power", "blend", "stack_logistic"])
def test_a_path_ends_at_the_ensemble_of_all(name: str, order: Order) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.7, 0.0)
    view = view_of(stack, labels)
    last = path(method(name), order, view, folds=folds, settings=SMALL)[-1]
    assert last.in_sample == pytest.approx(log_loss(in_sample(method(name), view, settings=SMALL)[1], labels), abs=1e-6)
    nested = nested_predictions(method(name), view, folds=folds, settings=SMALL)
    assert last.nested == pytest.approx(log_loss(nested, labels), abs=1e-6)


def test_labels_of_a_fold_reach_neither_its_order_nor_its_weights() -> None:
    stack, labels, folds = members(*CLOSE, rows=120, seed=3)
    view, seen = view_of(stack, labels), []

    def spy(true: np.ndarray) -> np.ndarray:
        seen.append(true)
        return added(true)

    path(method("uniform"), spy, view, folds=folds, settings=SMALL)
    assert len(seen) == 5
    for true, rows in zip(seen, [folds >= 0, *(folds != fold for fold in range(4))], strict=True):
        assert (true == view.true[rows]).all()


def test_an_ensemble_of_one_is_a_path_of_one_step() -> None:
    stack, labels, folds = members(1.0)
    for order in ORDERS.values():
        (step,) = path(method("uniform"), order, view_of(stack, labels), folds=folds, settings=SMALL)
        assert (step.members, step.moved) == (1, 0)
        assert [step.in_sample, step.nested] == pytest.approx([log_loss(stack[0], labels)] * 2)
