"""Arithmetic, geometric and power means against numpy, and their inequalities."""

import numpy as np
import pytest
from ensemble_cases import SMALL, members, method, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ensemble.contract import Fitted, equal_weights
from pipeline.ensemble.means import EXPONENTS, fit_exponent, linear, log_linear, power_mean
from pipeline.ensemble.nested import in_sample
from pipeline.metrics import log_loss


def test_uniform_and_geometric_means_of_two_rows() -> None:
    view = view_of(np.array([[[0.8, 0.2]], [[0.4, 0.6]]], dtype=np.float32))
    equal = Fitted(equal_weights(2))
    assert linear(view, equal)[0] == pytest.approx([0.6, 0.4], abs=1e-6)
    root = np.sqrt([0.8 * 0.4, 0.2 * 0.6])
    assert log_linear(view, equal)[0] == pytest.approx(root / root.sum(), abs=1e-6)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_power_means_are_numpys(exponent: float) -> None:
    stack, _, _ = members(1.5, 1.0, 0.4)
    weights = np.array([0.5, 0.2, 0.3])
    expected = np.power(np.tensordot(weights, np.power(stack.astype(np.float64), exponent), axes=1), 1 / exponent)
    expected /= expected.sum(axis=1, keepdims=True)
    assert power_mean(view_of(stack), Fitted(weights, power=exponent)) == pytest.approx(expected, abs=1e-6)


def test_the_power_mean_leads_from_the_geometric_mean_over_the_arithmetic_one() -> None:
    stack, _, _ = members(1.5, 1.0, 0.4)
    view, equal = view_of(stack), equal_weights(3)
    assert power_mean(view, Fitted(equal, power=1.0)) == pytest.approx(linear(view, Fitted(equal)), abs=1e-7)
    geometric = log_linear(view, Fitted(equal))
    steps = [np.abs(power_mean(view, Fitted(equal, power=e)) - geometric).max() for e in (0.25, 0.5, 1.0, 2.0)]
    assert steps == sorted(steps)


def test_the_exponent_has_the_least_log_loss_of_the_four() -> None:
    chosen = set()
    for shared, seed in ((0.0, 0), (0.0, 1), (3.0, 0), (3.0, 1)):
        stack, labels, _ = members(1.5, 1.0, 0.4, shared=shared, seed=seed)
        view = view_of(stack, labels)
        losses = {e: log_loss(power_mean(view, Fitted(equal_weights(3), power=e)), labels) for e in EXPONENTS}
        fitted = fit_exponent(view, settings=SMALL)
        assert losses[fitted.power] == pytest.approx(min(losses.values()), abs=1e-12)
        assert fitted.weights.tolist() == [1 / 3] * 3
        chosen.add(fitted.power)
    assert len(chosen) > 1


def test_the_exponent_of_some_rows_or_members_is_that_of_their_own_predictions() -> None:
    stack, labels, folds = members(1.5, 1.0, 0.4, 0.0)
    view = view_of(stack, labels)
    for fold in range(4):
        for kept in ([0, 1, 2, 3], [0, 3], [2, 3]):
            rows = np.flatnonzero(folds != fold)
            shared = fit_exponent(view.only(np.array(kept)).at(rows), settings=SMALL)
            alone = fit_exponent(view_of(stack[kept][:, rows], labels[rows]), settings=SMALL)
            assert shared.power == alone.power


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_means_never_lose_more_than_the_members_on_average(seed: int) -> None:
    stack, labels, _ = members(*np.random.default_rng(seed).uniform(0, 4, size=3), rows=40, seed=seed)
    view, average = view_of(stack, labels), np.mean([log_loss(member, labels) for member in stack])
    for name in ("uniform", "geometric"):
        assert log_loss(in_sample(method(name), view, settings=SMALL)[1], labels) <= average + 1e-6


def test_a_zero_is_strong_evidence_and_no_veto() -> None:
    zeros = view_of(np.array([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=np.float32))
    assert log_linear(zeros, Fitted(equal_weights(2)))[0] == pytest.approx([0.5, 0.5])
    outvoted = view_of(np.array([[[0.0, 1.0]], [[0.9, 0.1]], [[0.9, 0.1]]], dtype=np.float32))
    odds = np.array([1e-15 * 0.9**2, 0.1**2]) ** (1 / 3)
    assert log_linear(outvoted, Fitted(equal_weights(3)))[0] == pytest.approx(odds / odds.sum(), rel=1e-4)
    nothing = view_of(np.zeros((2, 1, 3), dtype=np.float32))
    assert log_linear(nothing, Fitted(equal_weights(2)))[0] == pytest.approx([1 / 3] * 3)
    assert linear(nothing, Fitted(equal_weights(2)))[0] == pytest.approx([1 / 3] * 3)
