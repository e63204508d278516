"""Rank average: the places against scipy's ranks, the laws of monotone maps, and the fitted power."""

import numpy as np
import pytest
from ensemble_cases import SMALL, members, method, view_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata

from pipeline.ensemble.contract import Fitted, drop, equal_weights
from pipeline.ensemble.nested import in_sample, nested_predictions
from pipeline.ensemble.rank import codes, fit_power, mean_ranks, rank_link
from pipeline.metrics import log_loss

RANK = method("rank")


def _tied(rows: int, seed: int, *, count: int = 2) -> np.ndarray:
    """Values in 0, 0.2, ..., 1, some of the zeros negative: `(M, N, 3)` float32."""
    random = np.random.default_rng(seed)
    stack = random.integers(0, 6, size=(count, rows, 3)).astype(np.float32) / 5
    return np.where((stack == 0) & (random.random(stack.shape) < 0.5), np.float32(-0.0), stack)


def _places(reference: np.ndarray, stack: np.ndarray) -> np.ndarray:
    """The definition, pair by pair: `(M, n, C)` places of `stack` among `reference`."""
    below = (reference[:, None] < stack[:, :, None]).sum(axis=2)
    below_or_equal = (reference[:, None] <= stack[:, :, None]).sum(axis=2)
    return (below + below_or_equal + 1) / (2 * (reference.shape[1] + 1))


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 30), seed=st.integers(0, 1000))
def test_reference_rows_have_scipys_midranks(rows: int, seed: int) -> None:
    stack, weights = _tied(rows, seed), np.array([0.3, 0.7])
    expected = np.tensordot(weights, rankdata(stack, method="average", axis=1) / (rows + 1), axes=1)
    view = view_of(stack)
    assert mean_ranks(view, view, weights) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 30), asked=st.integers(1, 30), seed=st.integers(0, 1000))
def test_rows_of_other_predictions_are_placed_among_the_reference(rows: int, asked: int, seed: int) -> None:
    reference, stack, weights = _tied(rows, seed), _tied(asked, seed + 1), np.array([0.3, 0.7])
    expected = np.tensordot(weights, _places(reference, stack), axes=1)
    assert mean_ranks(view_of(stack), view_of(reference), weights) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(2, 40), seed=st.integers(0, 1000))
def test_counting_codes_is_searching_values_whatever_the_rows_and_members(rows: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    stack, kept = _tied(rows, seed, count=4), random.permutation(4)[:random.integers(1, 5)]
    start = int(random.integers(0, rows))
    chosen = slice(start, rows) if seed % 2 else np.unique(random.integers(0, rows, size=rows))
    view, weights = view_of(stack).only(kept), random.dirichlet(np.ones(len(kept)))
    counted = mean_ranks(view, view.at(chosen), weights)
    searched = mean_ranks(view_of(stack).only(kept), view.at(chosen), weights)      # rows that happen to be the same
    assert counted == pytest.approx(searched, abs=1e-7)
    defined = np.tensordot(weights, _places(stack[kept][:, chosen], stack[kept]), axes=1)
    assert counted == pytest.approx(defined, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 40), seed=st.integers(0, 1000))
def test_codes_are_dense_ranks_less_one(rows: int, seed: int) -> None:
    stack = _tied(rows, seed)
    expected = rankdata(stack, method="dense", axis=1) - 1
    found = codes(view_of(stack).predictions).transpose(0, 2, 1)
    assert (np.sign(found[:, :, None] - found[:, None]) == np.sign(expected[:, :, None] - expected[:, None])).all()
    assert (found == expected).all()


def test_two_threads_give_the_bytes_of_one() -> None:
    stack, _, _ = members(1.5, 1.0, 0.5, rows=1000, classes=9)
    one, two = view_of(stack, threads=1), view_of(stack, threads=2)
    assert codes(one.predictions).tobytes() == codes(two.predictions).tobytes()
    some, weights = np.arange(0, 1000, 3), equal_weights(3)
    assert mean_ranks(one, one.at(some), weights).tobytes() == mean_ranks(two, two.at(some), weights).tobytes()


def test_places_that_are_kept_are_not_given_to_other_rows_members_or_weights() -> None:
    stack, _, _ = members(1.5, 1.0, 0.5, rows=60)
    view = view_of(stack)
    for chosen, kept, weights in (
        (slice(0, 40), [0, 1], [0.5, 0.5]), (slice(0, 41), [0, 1], [0.5, 0.5]), (slice(0, 41), [0, 2], [0.5, 0.5]),
        (slice(0, 41), [0, 2], [0.4, 0.6]), (np.arange(41), [0, 2], [0.4, 0.6]), (np.arange(1, 42), [0, 2], [0.4, 0.6]),
    ):
        some = view.only(np.array(kept))
        expected = np.tensordot(weights, _places(stack[kept][:, chosen], stack[kept]), axes=1)
        assert mean_ranks(some, some.at(chosen), np.array(weights)) == pytest.approx(expected, abs=1e-6)


def test_a_test_row_does_not_depend_on_the_others() -> None:
    stack, labels, _ = members(1.2, 1.0)
    test = view_of(members(1.2, 1.0, rows=30, seed=9)[0])
    fitted = fit_power(view_of(stack, labels), settings=SMALL)
    whole = rank_link(test, fitted)
    alone = np.concatenate([rank_link(test.at(slice(i, i + 1)), fitted) for i in range(30)])
    assert whole == pytest.approx(alone, abs=1e-6)


def _mapped(stack: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A strictly increasing map of every member's every class, drawn anew; values stay float32 in [0, 1]."""
    mapped = np.empty_like(stack)
    for m, c in np.ndindex(stack.shape[0], stack.shape[2]):
        values, places = np.unique(stack[m, :, c], return_inverse=True)
        steps = np.cumsum(random.integers(1, 1000, size=len(values)))
        mapped[m, :, c] = (steps / 2**20)[places]
    return mapped


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_strictly_increasing_maps_per_member_and_class_are_ignored(seed: int) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.5, rows=200, seed=seed)
    mapped = _mapped(stack, np.random.default_rng(seed))
    assert np.abs(mapped - stack).max() > 0.1
    before = nested_predictions(RANK, view_of(stack, labels), folds=folds, settings=SMALL)
    after = nested_predictions(RANK, view_of(mapped, labels), folds=folds, settings=SMALL)
    assert (before == after).all()


def test_all_weight_on_one_member_is_that_member_by_itself() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.5)
    view, test = view_of(stack, labels), view_of(members(1.5, 1.0, 0.5, rows=30, seed=9)[0])
    fitted = fit_power(view, settings=SMALL)
    for m in range(3):
        one_hot = Fitted(np.eye(3)[m], power=fitted.power, offset=fitted.offset, reference=view)
        alone = Fitted(np.ones(1), power=fitted.power, offset=fitted.offset, reference=view.only(np.array([m])))
        for rows in (view, test):
            assert rank_link(rows, one_hot) == pytest.approx(rank_link(rows.only(np.array([m])), alone), abs=1e-6)


def test_a_dropped_member_leaves_the_places_of_the_others() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.5)
    view, test = view_of(stack, labels), view_of(members(1.5, 1.0, 0.5, rows=30, seed=9)[0])
    fitted = fit_power(view, settings=SMALL)
    for m in range(3):
        rest = np.delete(stack, m, axis=0)
        expected = Fitted(equal_weights(2), power=fitted.power, offset=fitted.offset, reference=view_of(rest))
        for rows in (view, test):
            found = rank_link(rows.without(m), drop(fitted, m))
            assert found == pytest.approx(rank_link(rows.without(m), expected), abs=1e-6)


@pytest.mark.parametrize("strength", [0.3, 1.0, 3.0])
def test_the_power_has_the_least_log_loss(strength: float) -> None:
    stack, labels, _ = members(strength, 1.0, 0.5)
    view = view_of(stack, labels)
    fitted = fit_power(view, settings=SMALL)

    def loss(power: float) -> float:
        return log_loss(rank_link(view, Fitted(fitted.weights, power, fitted.offset, view)), labels)

    expected = minimize_scalar(loss, bounds=(0, 50), method="bounded")
    assert fitted.power == pytest.approx(expected.x, rel=1e-2)
    assert loss(fitted.power) <= expected.fun + 1e-6


def test_offsets_are_the_log_odds_of_the_classes_by_laplaces_rule() -> None:
    labels = np.array([0] * 70 + [1] * 20 + [2] * 7)
    offset = fit_power(view_of(_tied(97, 0), labels), settings=SMALL).offset
    prior = np.array([71, 21, 8]) / 100
    assert offset == pytest.approx(np.log(prior / (1 - prior)))


def test_the_power_is_zero_without_signal_against_it_and_bounded_with_perfect_members() -> None:
    stack, labels, _ = members(-2.0, rows=300)
    assert fit_power(view_of(stack, labels), settings=SMALL).power == 0
    perfect = np.eye(5, dtype=np.float32)[labels][None]
    fitted, predictions = in_sample(RANK, view_of(perfect, labels), settings=SMALL)
    assert fitted.power == 50
    assert (predictions.argmax(axis=1) == labels).all()
