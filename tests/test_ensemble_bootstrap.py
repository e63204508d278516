"""Intervals against plain bootstrap loops and normal approximations, for clusters, and for many comparisons at once."""

import numpy as np
import pytest
from ensemble_cases import members, sample
from scipy.stats import norm

from pipeline.ensemble.bootstrap import Interval, Sample, drawn_losses, intervals, simultaneous
from pipeline.ensemble.outcomes import outcome
from pipeline.metrics import METRICS, Metric, row_log_loss

LOG_LOSS = METRICS["log_loss"]
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


def _outcomes(stack: np.ndarray, labels: np.ndarray, metric: Metric) -> np.ndarray:
    return np.stack([outcome(member, labels, metric=metric) for member in stack])


def _difference(first: np.ndarray, second: np.ndarray, rows: Sample) -> Interval:
    return intervals(first[None], rows, against=second)[0]


def _ends(found: list[Interval]) -> np.ndarray:
    return np.array([(one.difference, one.low, one.high, one.standard_error) for one in found])


def test_an_interval_is_the_normal_one_for_log_loss() -> None:
    stack, labels, _ = members(1.5, 1.3, rows=2000)
    outcomes = _outcomes(stack, labels, LOG_LOSS)
    rows = row_log_loss(stack[0], labels) - row_log_loss(stack[1], labels)
    for found, values in (
        (_difference(*outcomes, sample(labels, draws=4000, level=0.9, seed=3)), rows),
        (intervals(outcomes[:1], sample(labels, draws=4000, level=0.9, seed=3))[0], outcomes[0]),
    ):
        error = values.std() / np.sqrt(2000)
        assert found.difference == pytest.approx(values.mean())
        assert found.standard_error == pytest.approx(error, rel=0.04)
        assert found.low == pytest.approx(values.mean() - 1.6449 * error, abs=0.1 * error)
        assert found.high == pytest.approx(values.mean() + 1.6449 * error, abs=0.1 * error)


@every_metric
def test_an_interval_is_that_of_scores_on_resampled_rows(metric: Metric) -> None:
    stack, labels, _ = members(1.5, 0.5, rows=150, classes=7)
    found = _difference(*_outcomes(stack, labels, metric),
                        sample(labels, metric=metric, classes=7, draws=2000, level=0.8))
    random = np.random.default_rng(99)
    drawn = []
    for _ in range(2000):
        rows = random.integers(0, 150, size=150)
        drawn.append(metric.loss(stack[0][rows], labels[rows]) - metric.loss(stack[1][rows], labels[rows]))
    assert found.difference == pytest.approx(metric.loss(stack[0], labels) - metric.loss(stack[1], labels), abs=1e-12)
    assert found.difference < 0
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.08)
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.1, 0.9]), abs=0.15 * np.std(drawn) + 1 / 150)


@every_metric
def test_an_interval_is_antisymmetric_and_the_seed_decides(metric: Metric) -> None:
    stack, labels, _ = members(1.5, 1.3, rows=200, classes=8)
    first, second = _outcomes(stack, labels, metric)
    rows = sample(labels, metric=metric, classes=8, draws=100)
    forth, back = _difference(first, second, rows), _difference(second, first, rows)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert _difference(first, second, rows) == forth
    assert _difference(first, second, sample(labels, metric=metric, classes=8, draws=100, seed=1)) != forth


@every_metric
def test_all_predictions_are_scored_on_the_same_rows_whoever_else_takes_part(metric: Metric) -> None:
    stack, labels, _ = members(1.5, 1.3, 0.5, rows=120, classes=8)
    outcomes, rows = _outcomes(stack, labels, metric), sample(labels, metric=metric, classes=8, draws=150)
    together = drawn_losses(outcomes, rows)
    assert together.shape == (150, 3)
    for place in range(3):
        assert drawn_losses(outcomes[place:place + 1], rows)[:, 0] == pytest.approx(together[:, place], abs=1e-12)


@every_metric
def test_rows_of_a_cluster_are_drawn_together(metric: Metric) -> None:
    stack, labels, _ = members(1.5, 1.0, rows=80, classes=8)
    outcomes, order = _outcomes(stack, labels, metric), np.random.default_rng(0).permutation(160)
    once = sample(labels, metric=metric, classes=8)
    twice = sample(np.repeat(labels, 2)[order], metric=metric, classes=8, clusters=np.repeat(np.arange(80), 2)[order])
    doubled = np.repeat(outcomes, 2, axis=1)[:, order]
    assert _ends(intervals(doubled, twice)) == pytest.approx(_ends(intervals(outcomes, once)), abs=1e-12)
    assert _ends(simultaneous([(doubled[0], doubled[1])], twice)) == pytest.approx(
        _ends(simultaneous([(outcomes[0], outcomes[1])], once)), abs=1e-9)
    blind = _difference(*doubled, sample(twice.labels, metric=metric, classes=8))
    assert blind.standard_error < 0.85 * _difference(*doubled, twice).standard_error        # 1 / sqrt(2), in the limit


def test_clusters_of_unequal_sizes_against_a_loop_over_clusters() -> None:
    stack, labels, _ = members(1.5, 0.5, rows=200)
    clusters = np.sort(np.random.default_rng(1).integers(0, 30, size=200))
    clusters = np.unique(clusters, return_inverse=True)[1]
    values = np.subtract(*_outcomes(stack, labels, LOG_LOSS))
    found = _difference(*_outcomes(stack, labels, LOG_LOSS), sample(labels, draws=3000, clusters=clusters))
    random, groups = np.random.default_rng(99), clusters.max() + 1
    drawn = []
    for _ in range(3000):
        picked = random.integers(0, groups, size=groups)
        drawn.append(np.concatenate([values[clusters == cluster] for cluster in picked]).mean())
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.08)
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.15 * np.std(drawn))


def test_one_pair_has_the_normal_interval_around_its_difference() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 2000))
    (found,) = simultaneous([(first, second)], sample(np.zeros(2000, dtype=int), draws=4000, level=0.95))
    error = (first - second).std() / np.sqrt(2000)
    assert found.difference == pytest.approx((first - second).mean(), abs=1e-12)
    assert (found.low + found.high) / 2 == pytest.approx(found.difference)
    assert (found.high - found.low) / 2 == pytest.approx(norm.ppf(0.975) * error, rel=0.05)


def test_independent_pairs_have_the_interval_of_the_largest_of_as_many_normal_deviates() -> None:
    pairs = [(a, b) for a, b in np.random.default_rng(1).normal(size=(8, 2, 1500))]
    found = simultaneous(pairs, sample(np.zeros(1500, dtype=int), draws=4000, level=0.95))
    reach = norm.ppf((1 + 0.95 ** (1 / 8)) / 2)                                 # Sidak's
    for interval in found:
        assert (interval.high - interval.low) / 2 == pytest.approx(reach * interval.standard_error, rel=0.05)


@every_metric
def test_intervals_that_hold_together_are_wider_than_each_by_itself(metric: Metric) -> None:
    stack, labels, _ = members(1.5, 1.4, 1.3, 1.0, rows=300, classes=8)
    outcomes, rows = _outcomes(stack, labels, metric), sample(labels, metric=metric, classes=8, draws=1000)
    pairs = [(outcomes[i], outcomes[j]) for i in range(4) for j in range(i)]
    for pair, wide in zip(pairs, simultaneous(pairs, rows), strict=True):
        (alone,), narrow = simultaneous([pair], rows), _difference(*pair, rows)
        assert wide.difference == pytest.approx(narrow.difference, abs=1e-12)
        assert wide.standard_error == pytest.approx(narrow.standard_error, abs=1e-12)
        assert wide.high - wide.low > max(alone.high - alone.low, narrow.high - narrow.low)


def test_pairs_of_equal_outcomes_have_no_width_and_leave_the_others_theirs() -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 300))
    rows = sample(np.zeros(300, dtype=int))
    (alone,) = simultaneous([(first, second)], rows)
    found, same, copied = simultaneous([(first, second), (first, first), (second, second.copy())], rows)
    assert _ends([found]) == pytest.approx(_ends([alone]), abs=1e-12)
    assert _ends([same, copied]) == pytest.approx(np.zeros((2, 4)), abs=1e-12)


def test_differences_that_are_null_are_all_covered_at_the_stated_rate() -> None:
    """400 data sets of 8 null differences each, level 0.9: 360 covered, give or take three deviations (18).

    A little fewer for the finite sample; intervals that hold one by one would cover about 0.9^8, 172 of them.
    """
    random, covered, one_by_one = np.random.default_rng(5), 0, 0
    for seed in range(400):
        outcomes = random.normal(size=(9, 120))
        rows = sample(np.zeros(120, dtype=int), draws=250, level=0.9, seed=seed)
        pairs = [(outcome, outcomes[8]) for outcome in outcomes[:8]]
        covered += all(found.low <= 0 <= found.high for found in simultaneous(pairs, rows))
        one_by_one += all(found.low <= 0 <= found.high for found in intervals(outcomes[:8], rows, against=outcomes[8]))
    assert 360 - 25 <= covered <= 360 + 18
    assert one_by_one < 280
