"""The convex blend against a grid, against scipy on the full tensor, and its optimality gap."""

from itertools import pairwise

import numpy as np
import pytest
from ensemble_cases import members
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from pipeline.ensemble.blend import fit_blend, optimal_weights, optimality_gap
from pipeline.ensemble.contract import Settings
from pipeline.metrics import log_loss


def _loss(true: np.ndarray, weights: np.ndarray) -> float:
    return -float(np.log(true @ weights).mean())


def test_two_members_against_a_grid() -> None:
    true = np.random.default_rng(0).beta(1, 1, size=(500, 2)) + 1e-3
    weights, _ = optimal_weights(true)
    grid = np.linspace(0, 1, 100_001)
    best = grid[np.argmin([_loss(true, np.array([w, 1 - w])) for w in grid[::100]]) * 100]
    fine = np.clip(best + np.linspace(-1e-3, 1e-3, 2001), 0, 1)
    expected = fine[np.argmin([_loss(true, np.array([w, 1 - w])) for w in fine])]
    assert weights == pytest.approx([expected, 1 - expected], abs=2e-6)


def test_three_members_against_a_grid() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.2, seed=3)
    weights = fit_blend(stack, labels, settings=Settings()).weights
    true = stack[:, np.arange(len(labels)), labels].T.astype(float)
    steps = np.linspace(0, 1, 101)
    grid = [np.array([a, b, 1 - a - b]) for a in steps for b in steps if a + b <= 1 + 1e-12]
    losses = [_loss(true, point) for point in grid]
    assert _loss(true, weights) <= min(losses)
    assert weights == pytest.approx(grid[int(np.argmin(losses))], abs=0.02)


def test_against_scipy_on_the_full_tensor() -> None:
    stack, labels, _ = members(1.5, 1.2, 1.0, 0.7, rows=200, seed=5)
    fitted = fit_blend(stack, labels, settings=Settings())
    tensor = stack.astype(float)
    expected = minimize(
        lambda w: log_loss(np.tensordot(w, tensor, axes=1), labels), np.full(4, 0.25), method="SLSQP",
        bounds=[(0, 1)] * 4, constraints={"type": "eq", "fun": lambda w: w.sum() - 1}, options={"ftol": 1e-13},
    )
    assert fitted.weights == pytest.approx(expected.x, abs=1e-4)
    assert log_loss(np.tensordot(fitted.weights, tensor, axes=1), labels) <= expected.fun + 1e-9


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 80), count=st.integers(1, 12), concentration=st.sampled_from([0.05, 0.5, 5.0]),
    seed=st.integers(0, 10_000),
)
def test_the_gap_closes_and_bounds_the_distance_to_any_blend(
    rows: int, count: int, concentration: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    true = np.maximum(random.beta(concentration, concentration, size=(rows, count)), 1e-15)
    weights, gap = optimal_weights(true)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    assert gap <= 1e-6
    for _ in range(20):
        other = random.dirichlet(np.full(count, 0.5))
        assert _loss(true, weights) - _loss(true, other) <= gap + 1e-12
        assert _loss(true, other) - _loss(true, weights) <= optimality_gap(true, other) + 1e-12


def test_members_that_are_given_twice_change_nothing() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.5)
    twice = np.concatenate([stack, stack])
    once = fit_blend(stack, labels, settings=Settings())
    again = fit_blend(twice, labels, settings=Settings())
    assert again.gap is not None
    assert again.gap <= 1e-6
    assert again.weights[:3] + again.weights[3:] == pytest.approx(once.weights, abs=1e-4)


def test_more_members_never_hurt_in_sample() -> None:
    stack, labels, _ = members(1.5, 0.3, 0.0, 1.2)
    true = stack[:, np.arange(len(labels)), labels].T.astype(float)
    losses = [_loss(true[:, :m], optimal_weights(true[:, :m])[0]) for m in (1, 2, 3, 4)]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(losses))


def test_zero_probabilities_are_clipped() -> None:
    stack = np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5]]], dtype=np.float32)
    fitted = fit_blend(stack, np.array([0, 0]), settings=Settings())
    assert fitted.weights == pytest.approx([1, 0], abs=1e-9)
