"""Rank average: the ranks against scipy's, the laws of monotone maps, and the fitted power."""

import numpy as np
import pytest
from ensemble_cases import members
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import rankdata

from pipeline.ensemble.contract import Settings
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.nested import in_sample_predictions, nested_predictions
from pipeline.ensemble.rank import codes, fit_power, rank_link, ranks
from pipeline.metrics import log_loss

RANK = METHODS["rank"]


def _tied(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 6, size=(2, rows, 3)).astype(np.float32) / 5


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 30), seed=st.integers(0, 1000))
def test_reference_rows_have_scipys_midranks(rows: int, seed: int) -> None:
    stack = _tied(rows, seed)
    expected = rankdata(stack, method="average", axis=1) / (rows + 1)
    assert ranks(stack, stack) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 30), asked=st.integers(1, 30), seed=st.integers(0, 1000))
def test_other_rows_are_placed_among_the_reference(rows: int, asked: int, seed: int) -> None:
    reference, stack = _tied(rows, seed), _tied(asked, seed + 1)
    below = (reference[:, None] < stack[:, :, None]).sum(axis=2)
    equal = (reference[:, None] == stack[:, :, None]).sum(axis=2)
    assert ranks(reference, stack) == pytest.approx((below + equal / 2 + 0.5) / (rows + 1), abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(2, 40), seed=st.integers(0, 1000))
def test_codes_are_a_short_cut_that_changes_no_bit(rows: int, seed: int) -> None:
    stack = _tied(rows, seed)
    chosen = np.random.default_rng(seed).random(rows) < 0.5
    chosen[0] = True
    numbered = codes(stack)
    assert (ranks(numbered[:, chosen], numbered) == ranks(stack[:, chosen], stack)).all()


def test_a_test_row_does_not_depend_on_the_others() -> None:
    stack, labels, _ = members(1.2, 1.0)
    test, _, _ = members(1.2, 1.0, rows=30, seed=9)
    fitted, _ = in_sample_predictions(RANK, stack, labels=labels, settings=Settings())
    whole = rank_link(ranks(stack, test), fitted)
    alone = np.concatenate([rank_link(ranks(stack, test[:, i:i + 1]), fitted) for i in range(30)])
    assert whole == pytest.approx(alone, abs=1e-6)


def test_strictly_increasing_maps_per_member_and_class_are_ignored() -> None:
    stack, labels, folds = members(1.5, 1.0, 0.5)
    mapped = stack.astype(float)
    for m in range(stack.shape[0]):
        for c in range(stack.shape[2]):
            mapped[m, :, c] = (mapped[m, :, c] ** (0.3 + m)) * (c + 1) - m
    before = nested_predictions(RANK, stack, labels=labels, folds=folds, settings=Settings())
    after = nested_predictions(RANK, mapped, labels=labels, folds=folds, settings=Settings())
    assert (before == after).all()


def test_the_power_has_the_least_log_loss() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.5)
    placed = ranks(stack, stack)
    fitted = fit_power(placed, labels, settings=Settings())

    def loss(power: float) -> float:
        return log_loss(rank_link(placed, type(fitted)(fitted.weights, power, fitted.offset)), labels)

    expected = minimize_scalar(loss, bounds=(0, 50), method="bounded")
    assert fitted.power == pytest.approx(expected.x, rel=1e-2)
    assert loss(fitted.power) <= expected.fun + 1e-6


def test_the_power_is_zero_without_signal_against_it_and_bounded_with_perfect_members() -> None:
    stack, labels, _ = members(-2.0, rows=300)
    assert fit_power(ranks(stack, stack), labels, settings=Settings()).power == 0
    perfect = np.eye(5, dtype=np.float32)[labels][None]
    fitted, predictions = in_sample_predictions(RANK, perfect, labels=labels, settings=Settings())
    assert fitted.power == 50
    assert (predictions.argmax(axis=1) == labels).all()
