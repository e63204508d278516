"""Greedy selection, pick by pick, against the paper's algorithm written naively on full probabilities."""

import numpy as np
import pytest
from ensemble_cases import members

from pipeline.ensemble.contract import Settings
from pipeline.ensemble.greedy import fit_greedy
from pipeline.metrics import METRICS, Metric


def _naive(stack: np.ndarray, labels: np.ndarray, metric: Metric, steps: int) -> list[float]:
    """Counts of the best bag: sorted initialisation, then the best addition at each step, ties to the earlier."""
    def loss(bag: list[int]) -> float:
        return metric.loss(sum(stack[m] for m in bag) / np.float32(len(bag)), labels)

    order = sorted(range(len(stack)), key=lambda m: loss([m]))
    bags = [order[:k] for k in range(1, len(stack) + 1)]
    bag = min(bags, key=loss)
    best = bag
    for _ in range(steps):
        bag = min(([*bag, m] for m in range(len(stack))), key=loss)
        best = min(best, bag, key=loss)
    return [best.count(m) / len(best) for m in range(len(stack))]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("steps", [1, 2, 3, 12])
def test_picks_are_the_naive_algorithms(metric: str, steps: int) -> None:
    for seed in range(4):
        stack, labels, _ = members(1.4, 1.0, 1.2, 0.6, rows=120, seed=seed)
        stack = np.round(stack * 2**16) / np.float32(2**16)  # sums are exact, so ties are ties in both
        fitted = fit_greedy(stack, labels, settings=Settings(METRICS[metric], steps))
        assert fitted.weights == pytest.approx(_naive(stack, labels, METRICS[metric], steps)), seed


def test_a_tie_goes_to_the_earlier_member() -> None:
    stack, labels, _ = members(1.2, rows=100)
    fitted = fit_greedy(np.concatenate([stack, stack]), labels, settings=Settings(greedy_steps=5))
    assert fitted.weights.tolist() == [1, 0]


def test_never_worse_than_the_best_single_member_in_sample() -> None:
    for metric in METRICS.values():
        stack, labels, _ = members(1.0, 1.1, 0.0, 0.9)
        weights = fit_greedy(stack, labels, settings=Settings(metric, 10)).weights
        blend = np.tensordot(weights, stack, axes=1)
        assert metric.loss(blend, labels) <= min(metric.loss(p, labels) for p in stack) + 1e-9
