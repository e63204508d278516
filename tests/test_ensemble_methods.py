"""Laws of the whole table of methods."""

from dataclasses import replace

import numpy as np
import pytest
from ensemble_cases import CALIBRATED, NAMES, SMALL, WEIGHTED, members, method, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import ensemble as config
from pipeline.ensemble.calibrations import CALIBRATIONS
from pipeline.ensemble.contract import Fitted
from pipeline.ensemble.methods import METHODS, find
from pipeline.ensemble.nested import in_sample
from pipeline.metrics import log_loss

LINEAR = ("uniform", "greedy", "blend")
VOTES = ("vote", "soft_vote", "weighted_vote")
TOLERANCE = 2e-4                            # of optimisers that add up rows in another order
every_method = pytest.mark.parametrize("name", NAMES)


def _predict(name: str, stack: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return in_sample(method(name), view_of(stack, labels), settings=SMALL)[1]


def test_the_table_has_the_names_of_the_config_in_order_of_simplicity() -> None:
    need_more = {"stack_svm", "stack_lightgbm"}
    assert list(METHODS) == [name for name in config.METHODS if name not in need_more]
    assert list(CALIBRATIONS) == list(config.CALIBRATIONS)
    simplicities = [row.simplicity for row in METHODS.values()]
    assert simplicities == sorted(set(simplicities))
    for name, following in zip(METHODS, simplicities[1:], strict=False):
        calibrated = [find(f"{name}+{calibration}", METHODS).simplicity for calibration in CALIBRATIONS]
        assert [METHODS[name].simplicity, *calibrated, following] == sorted({*calibrated, METHODS[name].simplicity,
                                                                             following})


def test_names_that_are_not_in_the_table_are_refused() -> None:
    for name in ("blendd", "blend+heat", "+temperature", "blendd+temperature"):
        with pytest.raises(KeyError):
            find(name, METHODS)


@every_method
def test_rows_and_weights_sum_to_one(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.0)
    stack[0, :5] = [0, 0, 1, 0, 0]
    fitted, predictions = in_sample(method(name), view_of(stack, labels), settings=SMALL)
    assert (predictions.shape, predictions.dtype) == (stack[0].shape, np.float32)
    assert predictions.sum(axis=1) == pytest.approx(np.ones(len(labels)), abs=1e-6)
    assert predictions.min() >= 0
    assert (fitted.weights is not None) == (name in WEIGHTED)
    if fitted.weights is not None:
        assert fitted.weights.sum(axis=0) == pytest.approx(np.ones(fitted.weights.shape[1:]))
        assert fitted.weights.min() >= 0


@every_method
@settings(deadline=None, max_examples=6)
@given(seed=st.integers(0, 1000))
def test_order_of_members_rows_and_classes_does_not_matter(name: str, seed: int) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, rows=80, classes=4, seed=seed)
    random = np.random.default_rng(seed)
    order, rows, classes = random.permutation(3), random.permutation(80), random.permutation(4)
    before = _predict(name, stack, labels)
    shuffled = stack[order][:, rows][:, :, classes]
    after = _predict(name, shuffled, np.argsort(classes)[labels[rows]])
    assert after == pytest.approx(before[rows][:, classes], abs=TOLERANCE)
    by_view = view_of(stack, labels).at(rows).only(order)
    assert in_sample(method(name), by_view, settings=SMALL)[1] == pytest.approx(before[rows], abs=TOLERANCE)


@pytest.mark.parametrize("name", [*LINEAR, "geometric", "power", "class_weights"])
def test_all_weight_on_one_member_returns_that_member(name: str) -> None:
    stack, _, _ = members(1.5, 1.0, 0.4)
    for m in range(3):
        weights = np.eye(3)[m] if name != "class_weights" else np.repeat(np.eye(3)[m][:, None], 5, axis=1)
        for power in (0.25, 0.5, 1.0, 2.0) if name == "power" else (1.0,):
            found = method(name).combine(view_of(stack), Fitted(weights, power=power))
            assert found == pytest.approx(stack[m], abs=1e-6)


@pytest.mark.parametrize("name", VOTES)
def test_all_votes_with_one_member_decide_like_that_member(name: str) -> None:
    stack, _, _ = members(1.5, 1.0, 0.4)
    for m in range(3):
        found = method(name).combine(view_of(stack), Fitted(np.eye(3)[m]))
        assert (found.argmax(axis=1) == stack[m].argmax(axis=1)).all()


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(VOTES)])
def test_copies_of_one_member_say_what_one_says(name: str) -> None:
    stack, labels, _ = members(1.5)
    shrunk = replace(SMALL, shrinkage=np.inf if name == "stack_logistic" else 1.0)     # a ridge on more coefficients
    once = in_sample(method(name), view_of(stack, labels), settings=shrunk)[1]
    thrice = in_sample(method(name), view_of(np.repeat(stack, 3, axis=0), labels), settings=shrunk)[1]
    assert thrice == pytest.approx(once, abs=2e-4 if name in CALIBRATED else 2e-5)


@pytest.mark.parametrize("name", VOTES)
def test_copies_of_one_voter_decide_like_one(name: str) -> None:
    stack, labels, _ = members(1.5)         # the tie-break's share of the tally depends on the number of votes
    once, thrice = _predict(name, stack, labels), _predict(name, np.repeat(stack, 3, axis=0), labels)
    assert (once.argmax(axis=1) == thrice.argmax(axis=1)).all()


@every_method
def test_a_row_is_combined_alike_alone_in_a_block_or_among_unlabelled_rows(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, rows=700)
    view = view_of(stack, labels)
    fitted, whole = in_sample(method(name), view, settings=SMALL)
    some = np.random.default_rng(0).permutation(700)[:40]
    assert method(name).combine(view.at(some), fitted) == pytest.approx(whole[some], abs=1e-6)
    assert method(name).combine(view.at(slice(100, 650)), fitted) == pytest.approx(whole[100:650], abs=1e-6)
    assert method(name).combine(view_of(stack[:, some]), fitted) == pytest.approx(whole[some], abs=1e-6)


@every_method
def test_the_fit_depends_on_the_rows_of_its_view_alone(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, 0.2)
    rows, kept = np.arange(0, 400, 3), np.array([0, 1, 3])
    among = method(name).fit(view_of(stack, labels).at(rows).only(kept), settings=SMALL)
    alone = method(name).fit(view_of(stack[kept][:, rows], labels[rows]), settings=SMALL)
    test = view_of(members(1.5, 1.0, 0.4, rows=50, seed=5)[0])
    assert method(name).combine(test, among) == pytest.approx(method(name).combine(test, alone), abs=1e-6)


@pytest.mark.parametrize("name", [name for name, row in METHODS.items() if not row.learns])
def test_methods_that_do_not_learn_need_no_labels(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4)
    unlabelled = view_of(stack)
    found = method(name).combine(unlabelled, method(name).fit(unlabelled, settings=SMALL))
    assert (found == _predict(name, stack, labels)).all()


@pytest.mark.parametrize("name", [name for name in NAMES if method(name).learns])
def test_methods_that_learn_ask_for_labels(name: str) -> None:
    with pytest.raises(AssertionError):
        method(name).fit(view_of(members(1.5, 1.0, 0.4)[0]), settings=SMALL)


def test_blend_is_the_best_linear_method_in_sample() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, 0.0)
    losses = {name: log_loss(_predict(name, stack, labels), labels) for name in LINEAR}
    assert losses["blend"] <= min(losses.values()) + 1e-6
    assert losses["blend"] <= min(log_loss(p, labels) for p in stack) + 1e-6


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibration_never_loses_in_sample_and_keeps_the_methods_weights(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, shared=2.0)
    base = name.partition("+")[0]
    plain, before = in_sample(method(base), view_of(stack, labels), settings=SMALL)
    fitted, after = in_sample(method(name), view_of(stack, labels), settings=SMALL)
    assert log_loss(after, labels) <= log_loss(before, labels) + 1e-6
    assert (fitted.weights == plain.weights).all()
