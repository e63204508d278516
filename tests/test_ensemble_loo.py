"""Leave-one-out, its bootstrap intervals, and the choice of the final method."""

import numpy as np
import pytest
from ensemble_cases import members

from pipeline.ensemble.bootstrap import paired_bootstrap
from pipeline.ensemble.choose import choose
from pipeline.ensemble.contract import Settings, drop
from pipeline.ensemble.diversity import disagreement, error_correlation
from pipeline.ensemble.loo import LeftOut, leave_one_out, verdict
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.nested import in_sample_predictions, nested_predictions
from pipeline.metrics import METRICS, row_log_loss

LOG_LOSS = METRICS["log_loss"]
SMALL = Settings(greedy_steps=8)


def _loo(name: str, stack: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> list[LeftOut]:
    return leave_one_out(
        METHODS[name], stack, labels=labels, folds=folds, names=[f"m{m}" for m in range(len(stack))],
        settings=SMALL, draws=300, level=0.95, seed=0,
    )


@pytest.mark.parametrize("name", METHODS)
def test_scores_are_those_of_the_ensemble_built_without_the_member(name: str) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.7)
    method = METHODS[name]
    fitted, _ = in_sample_predictions(method, stack, labels=labels, settings=SMALL)
    whole = nested_predictions(method, stack, labels=labels, folds=folds, settings=SMALL)
    for m, row in enumerate(_loo(name, stack, labels, folds)):
        rest = np.delete(stack, m, axis=0)
        kept = method.combine(method.embed(rest, rest), drop(fitted, m))
        _, refitted = in_sample_predictions(method, rest, labels=labels, settings=SMALL)
        nested = nested_predictions(method, rest, labels=labels, folds=folds, settings=SMALL)
        assert (row.member, row.weight) == (f"m{m}", fitted.weights[m])
        assert row.kept == pytest.approx(LOG_LOSS.score(kept, labels), abs=1e-7)
        assert row.refitted == pytest.approx(LOG_LOSS.score(refitted, labels), abs=1e-7)
        assert row.nested == pytest.approx(LOG_LOSS.score(nested, labels), abs=1e-7)
        assert row.nested_difference == pytest.approx(row.nested - LOG_LOSS.score(whole, labels), abs=1e-7)
        assert row.low <= row.nested_difference <= row.high


@pytest.mark.parametrize("name", METHODS)
def test_noise_does_not_help_and_a_unique_member_does(name: str) -> None:
    stack, labels, folds = members(1.5, 1.5, 0.0, 0.0, rows=800)
    rows = _loo(name, np.concatenate([stack[:2], stack[2:3], stack[2:3]]), labels, folds)
    assert rows[2].verdict != "helps"
    assert rows[3].verdict != "helps"
    assert rows[0].verdict == "helps"
    assert rows[1].verdict == "helps"


def test_an_ensemble_of_one_has_nobody_to_leave_out() -> None:
    stack, labels, folds = members(1.0)
    assert _loo("blend", stack, labels, folds) == []


def test_verdicts() -> None:
    assert verdict(1e-6, 4e-5) == verdict(-4e-5, -1e-6) == "not distinguishable"
    assert [verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-0.1, 0.1), verdict(0.0, 0.0)] == [
        "helps", "hurts", "not distinguishable", "not distinguishable"
    ]


def test_bootstrap_is_the_normal_interval_for_log_loss() -> None:
    stack, labels, _ = members(1.5, 1.3, rows=2000)
    found = paired_bootstrap(stack[0], stack[1], metric=LOG_LOSS, labels=labels, draws=4000, level=0.9, seed=3)
    rows = row_log_loss(stack[0], labels) - row_log_loss(stack[1], labels)
    error = rows.std() / np.sqrt(2000)
    assert found.difference == pytest.approx(rows.mean())
    assert found.standard_error == pytest.approx(error, rel=0.04)
    assert found.low == pytest.approx(rows.mean() - 1.6449 * error, abs=0.1 * error)
    assert found.high == pytest.approx(rows.mean() + 1.6449 * error, abs=0.1 * error)


@pytest.mark.parametrize("name", METRICS)
def test_bootstrap_is_the_score_on_resampled_rows(name: str) -> None:
    metric = METRICS[name]
    stack, labels, _ = members(1.5, 0.5, rows=150, classes=7)
    found = paired_bootstrap(stack[0], stack[1], metric=metric, labels=labels, draws=2000, level=0.8, seed=0)
    random = np.random.default_rng(99)
    drawn = []
    for _ in range(2000):
        rows = random.integers(0, 150, size=150)
        drawn.append(metric.loss(stack[0][rows], labels[rows]) - metric.loss(stack[1][rows], labels[rows]))
    assert found.difference == metric.loss(stack[0], labels) - metric.loss(stack[1], labels)
    assert found.difference < 0
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.08)
    assert [found.low, found.high] == pytest.approx(np.quantile(drawn, [0.1, 0.9]), abs=0.15 * np.std(drawn) + 1 / 150)


@pytest.mark.parametrize("name", METRICS)
def test_bootstrap_is_antisymmetric_and_the_seed_decides(name: str) -> None:
    stack, labels, _ = members(1.5, 1.3, rows=200, classes=8)
    options = {"metric": METRICS[name], "labels": labels, "draws": 100, "level": 0.95}
    forth = paired_bootstrap(stack[0], stack[1], **options, seed=0)
    back = paired_bootstrap(stack[1], stack[0], **options, seed=0)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert paired_bootstrap(stack[0], stack[1], **options, seed=0) == forth
    assert paired_bootstrap(stack[0], stack[1], **options, seed=1) != forth


def _sure(probability_of_truth: list[float], labels: np.ndarray) -> np.ndarray:
    true = np.array(probability_of_truth)[:, None]
    return np.where(np.eye(3)[labels] == 1, true, (1 - true) / 2)


def test_choose_takes_the_simpler_method_inside_one_standard_error() -> None:
    labels = np.arange(60) % 3
    level = _sure([0.5] * 60, labels)
    mixed = _sure([0.6, 0.6, 0.4] + [0.5] * 57, labels)     # better by 0.14 / 60 nats, standard error 0.34 / 60
    better = _sure([0.6] * 59 + [0.4], labels)
    options = {"metric": LOG_LOSS, "draws": 300, "level": 0.95, "seed": 0}

    equal = choose({"blend": level, "uniform": level, "rank": level}, labels, **options)
    assert (equal.final, equal.best) == ("uniform", "uniform")
    near = choose({"blend": mixed, "uniform": level}, labels, **options)
    assert (near.final, near.best) == ("uniform", "blend")
    assert near.differences["blend"].difference == 0
    assert near.differences["uniform"].difference == pytest.approx((2 * np.log(1.2) + np.log(0.8)) / 60)
    clear = choose({"uniform": level, "vote": mixed, "blend": better}, labels, **options)
    assert (clear.final, clear.best) == ("blend", "blend")
    assert clear.differences["uniform"].low > 0


def test_choose_follows_the_direction_of_the_metric() -> None:
    labels = np.arange(60) % 3
    right, wrong = _sure([0.6] * 60, labels), _sure([0.1] * 60, labels)
    found = choose(
        {"uniform": wrong, "blend": right}, labels, metric=METRICS["accuracy"], draws=100, level=0.95, seed=0
    )
    assert (found.final, found.differences["uniform"].difference) == ("blend", 1.0)


def test_error_correlation_is_numpys_and_survives_constant_errors() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.5)
    errors = 1 - stack[:, np.arange(len(labels)), labels]
    assert error_correlation(stack, labels) == pytest.approx(np.corrcoef(errors), abs=1e-6)
    constant = np.concatenate([stack[:1], np.full_like(stack[:1], 0.2)])
    assert error_correlation(constant, labels) == pytest.approx(np.eye(2), abs=1e-12)


def test_disagreement_counts_rows_with_different_tops() -> None:
    tops = np.array([[0, 0, 1, 2], [0, 1, 1, 2], [2, 2, 2, 2]])
    stack = np.eye(3)[tops]
    assert disagreement(stack).tolist() == [[0, 0.25, 0.75], [0.25, 0, 0.75], [0.75, 0.75, 0]]
