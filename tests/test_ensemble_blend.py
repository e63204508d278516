"""The convex blend against grids over the simplex, against scipy on the full tensor, and its optimality gap."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from ensemble_cases import SMALL, members, view_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from pipeline.ensemble.blend import fit_blend, optimal_weights, optimality_gap, refit_blend
from pipeline.metrics import log_loss


def _loss(true: np.ndarray, weights: np.ndarray) -> float:
    return -float(np.log(true @ weights).mean())


def _true(rows: int, count: int, *, concentration: float, seed: int) -> np.ndarray:
    return np.maximum(np.random.default_rng(seed).beta(concentration, concentration, size=(rows, count)), 1e-15)


def _grid(count: int, steps: int) -> np.ndarray:
    """Every point of the simplex whose weights are multiples of 1/steps (stars and bars)."""
    bars = np.array(list(combinations(range(steps + count - 1), count - 1)))
    edges = np.hstack([np.full((len(bars), 1), -1), bars, np.full((len(bars), 1), steps + count - 1)])
    return (np.diff(edges, axis=1) - 1) / steps


def test_two_members_against_a_grid() -> None:
    true = np.random.default_rng(0).beta(1, 1, size=(500, 2)) + 1e-3
    weights, _ = optimal_weights(true)
    grid = np.linspace(0, 1, 100_001)
    best = grid[np.argmin([_loss(true, np.array([w, 1 - w])) for w in grid[::100]]) * 100]
    fine = np.clip(best + np.linspace(-1e-3, 1e-3, 2001), 0, 1)
    expected = fine[np.argmin([_loss(true, np.array([w, 1 - w])) for w in fine])]
    assert weights == pytest.approx([expected, 1 - expected], abs=2e-6)


@pytest.mark.parametrize(("count", "steps"), [(2, 1000), (3, 100), (4, 40)])
@pytest.mark.parametrize("seed", [3, 4])
def test_few_members_against_a_grid_over_the_simplex(count: int, steps: int, seed: int) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.2, 1.2, seed=seed, rows=150)
    view = view_of(stack[:count], labels)
    fitted = fit_blend(view, settings=SMALL)
    grid = _grid(count, steps)
    losses = -np.log(view.true @ grid.T).mean(axis=0)
    best = _loss(view.true, fitted.weights)
    assert best <= losses.min()
    assert losses.min() - best <= 2 / steps**2
    assert fitted.weights == pytest.approx(grid[losses.argmin()], abs=2 / steps)


def test_the_grid_is_the_simplex() -> None:
    found = {tuple(point) for point in (2 * _grid(3, 2)).tolist()}
    assert found == {(0, 0, 2), (0, 1, 1), (0, 2, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0)}


@pytest.mark.parametrize("seed", [5, 6, 7])
def test_against_scipy_on_the_full_tensor(seed: int) -> None:
    stack, labels, _ = members(1.5, 1.2, 1.0, 0.7, rows=200, seed=seed)
    fitted = fit_blend(view_of(stack, labels), settings=SMALL)
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
    true = _true(rows, count, concentration=concentration, seed=seed)
    weights, gap = optimal_weights(true)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1)
    assert gap <= 1e-9
    random = np.random.default_rng(seed)
    for _ in range(20):
        other = random.dirichlet(np.full(count, 0.5))
        assert _loss(true, weights) - _loss(true, other) <= gap + 1e-12
        assert _loss(true, other) - _loss(true, weights) <= optimality_gap(true, other) + 1e-12


def test_the_gap_is_the_largest_mean_ratio_less_one() -> None:
    true = np.array([[0.5, 0.1], [0.2, 0.8]])
    weights = np.array([0.5, 0.5])
    assert optimality_gap(true, weights) == pytest.approx((0.5 / 0.3 + 0.2 / 0.5) / 2 - 1)
    assert optimality_gap(true[:1], np.array([1.0, 0.0])) == 0


@settings(deadline=None, max_examples=30)
@given(strengths=st.lists(st.floats(0, 2), min_size=2, max_size=6), seed=st.integers(0, 10_000))
def test_a_refit_without_a_member_is_the_fit_without_it(strengths: list[float], seed: int) -> None:
    stack, labels, _ = members(*strengths, rows=120, seed=seed)
    view = view_of(stack, labels)
    fitted = fit_blend(view, settings=SMALL)
    for m in range(len(strengths)):
        again = refit_blend(view, fitted, m, settings=SMALL)
        expected = fit_blend(view.without(m), settings=SMALL)
        assert again.gap <= 1e-9
        assert expected.gap <= 1e-9
        assert again.weights == pytest.approx(expected.weights, abs=1e-6)
        assert _loss(view.without(m).true, again.weights) == pytest.approx(
            _loss(view.without(m).true, expected.weights), abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 80), count=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_a_refit_closes_the_gap_where_only_the_member_left_out_was_right(rows: int, count: int, seed: int) -> None:
    stack = _true(rows, count, concentration=0.05, seed=seed).T[:, :, None]
    view = view_of(stack, np.zeros(rows, dtype=np.int64))
    fitted = fit_blend(view, settings=SMALL)
    for m in range(count):
        again = refit_blend(view, fitted, m, settings=SMALL)
        assert again.gap <= 1e-9
        assert optimality_gap(view.without(m).true, again.weights) <= 1e-9


def test_members_that_are_given_twice_change_nothing() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.5)
    once = fit_blend(view_of(stack, labels), settings=SMALL)
    again = fit_blend(view_of(np.concatenate([stack, stack]), labels), settings=SMALL)
    assert again.gap <= 1e-9
    assert again.weights[:3] + again.weights[3:] == pytest.approx(once.weights, abs=1e-4)


@settings(deadline=None, max_examples=30)
@given(count=st.integers(1, 6), copies=st.lists(st.integers(0, 5), min_size=1, max_size=6), seed=st.integers(0, 10_000))
def test_duplicates_of_members_neither_hurt_nor_help_the_optimum(count: int, copies: list[int], seed: int) -> None:
    true = _true(60, count, concentration=0.5, seed=seed)
    once = _loss(true, optimal_weights(true)[0])
    again = np.hstack([true, true[:, np.array(copies) % count]])
    weights, gap = optimal_weights(again)
    assert gap <= 1e-9
    assert _loss(again, weights) == pytest.approx(once, abs=2e-6)


def test_more_members_never_hurt_in_sample() -> None:
    stack, labels, _ = members(1.5, 0.3, 0.0, 1.2)
    true = view_of(stack, labels).true
    losses = [_loss(true[:, :m], optimal_weights(true[:, :m])[0]) for m in (1, 2, 3, 4)]
    assert all(later <= earlier + 1e-9 for earlier, later in pairwise(losses))


def test_members_that_are_not_free_have_no_weight_and_the_others_are_optimal() -> None:
    stack, labels, _ = members(1.5, 0.8, 1.0, 1.2)
    true, free = view_of(stack, labels).true, np.array([True, False, True, False])
    weights, gap = optimal_weights(true, free=free)
    assert weights[~free].tolist() == [0, 0]
    assert gap <= 1e-9
    assert weights[free] == pytest.approx(optimal_weights(true[:, free])[0], abs=1e-6)


def test_zero_probabilities_are_clipped() -> None:
    stack = np.array([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.5, 0.5]]], dtype=np.float32)
    fitted = fit_blend(view_of(stack, np.array([0, 0])), settings=SMALL)
    assert fitted.weights == pytest.approx([1, 0], abs=1e-9)
