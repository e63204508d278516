"""Leave-one-out against ensembles built without the member, and what its rows say."""

from dataclasses import replace

import numpy as np
import pytest
from ensemble_cases import CALIBRATED, SMALL, WEIGHTED, members, method, sample, view_of

from pipeline.ensemble.bootstrap import intervals
from pipeline.ensemble.contract import Fitted, Settings, drop
from pipeline.ensemble.loo import LeftOut, leave_one_out, verdict
from pipeline.ensemble.nested import in_sample, nested_outcome, nested_predictions
from pipeline.ensemble.outcomes import outcome
from pipeline.ensemble.without import outcomes_without_each
from pipeline.metrics import METRICS, Metric

every_weighted = pytest.mark.parametrize("name", WEIGHTED)
every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


def _loo(
    name: str, stack: np.ndarray, labels: np.ndarray, folds: np.ndarray, *, chosen: Settings = SMALL
) -> list[LeftOut]:
    return leave_one_out(
        method(name), view_of(stack, labels), folds=folds, names=[f"m{m}" for m in range(len(stack))], settings=chosen,
        sample=sample(labels, metric=chosen.metric, classes=stack.shape[2]),
    )


def _scores_are_those_of_ensembles_without_the_member(name: str, metric: Metric) -> None:
    stack, labels, folds = members(1.5, 1.0, 0.7, classes=7)
    chosen, exact = replace(SMALL, metric=metric), 1e-4 if name in CALIBRATED else 1e-6
    view = view_of(stack, labels)
    fitted = method(name).fit(view, settings=chosen)
    whole = nested_outcome(method(name), view, folds=folds, settings=chosen)
    for m, row in enumerate(_loo(name, stack, labels, folds, chosen=chosen)):
        rest = view_of(np.delete(stack, m, axis=0), labels)
        kept = method(name).combine(rest, drop(fitted, m))
        _, refitted = in_sample(method(name), rest, settings=chosen)
        nested = nested_predictions(method(name), rest, folds=folds, settings=chosen)
        assert (row.member, row.weight) == (f"m{m}", pytest.approx(fitted.weights[m].mean()))
        assert row.kept == pytest.approx(metric.score(kept, labels), abs=exact)
        assert row.refitted == pytest.approx(metric.score(refitted, labels), abs=exact)
        assert row.nested == pytest.approx(metric.score(nested, labels), abs=exact)
        without = outcome(nested, labels, metric=metric)
        (change,) = intervals(without[None], sample(labels, metric=metric, classes=7), against=whole)
        assert row.nested_difference == pytest.approx(change.difference, abs=exact)
        assert [row.low, row.high] == pytest.approx([change.low, change.high], abs=exact)
        assert row.verdict == verdict(row.low, row.high)


@every_weighted
def test_scores_are_those_of_ensembles_without_the_member(name: str) -> None:
    _scores_are_those_of_ensembles_without_the_member(name, METRICS["log_loss"])


@pytest.mark.parametrize("metric", ["accuracy", "top_5", "macro_f1"])
@pytest.mark.parametrize("name", ["geometric", "rank", "weighted_vote", "greedy", "blend"])
def test_scores_are_those_of_ensembles_without_the_member_in_every_metric(name: str, metric: str) -> None:
    _scores_are_those_of_ensembles_without_the_member(name, METRICS[metric])


@every_metric
@every_weighted
def test_outcomes_without_each_are_those_of_the_dropped_weights(name: str, metric: Metric) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, 0.8, classes=7, rows=600)
    view = view_of(stack, labels)
    fitted = method(name).fit(view, settings=SMALL)
    found = outcomes_without_each(method(name), view, fitted, metric=metric)
    for m in range(4):
        rest = view_of(np.delete(stack, m, axis=0), labels)
        expected = outcome(method(name).combine(rest, drop(fitted, m)), labels, metric=metric)
        assert found[m] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("name", ["uniform", "geometric"])
@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.0], [0.9999999, 5e-8, 5e-8], [0.89, 0.11, 0.0]])
def test_outcomes_without_a_member_that_has_nearly_all_weight(name: str, weights: list[float]) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, rows=600)
    stack[:, 0] = np.eye(5, dtype=np.float32)[0]
    fitted = Fitted(np.array(weights))
    found = outcomes_without_each(method(name), view_of(stack, labels), fitted, metric=METRICS["log_loss"])
    for m in range(3):
        rest = view_of(np.delete(stack, m, axis=0), labels)
        expected = outcome(method(name).combine(rest, drop(fitted, m)), labels, metric=METRICS["log_loss"])
        assert found[m] == pytest.approx(expected, rel=2e-5, abs=2e-5)


def test_a_method_that_does_not_learn_is_the_same_refitted_as_kept() -> None:
    stack, labels, folds = members(1.5, 1.0, 0.7)
    for name in ("uniform", "geometric", "vote", "soft_vote"):
        assert all(row.kept == row.refitted == row.nested for row in _loo(name, stack, labels, folds))


@every_weighted
def test_noise_does_not_help_and_a_unique_member_does(name: str) -> None:
    stack, labels, folds = members(1.5, 1.5, 0.0, rows=800)
    rows = _loo(name, np.concatenate([stack, stack[2:]]), labels, folds)
    assert [row.verdict == "helps" for row in rows] == [True, True, False, False]


def test_some_members_of_the_predictions_are_left_out_like_members_of_their_own() -> None:
    stack, labels, folds = members(1.5, 0.2, 1.0, 0.7)
    kept = np.array([3, 0, 2])
    for name in ("uniform", "rank", "greedy", "blend"):
        found = leave_one_out(
            method(name), view_of(stack, labels).only(kept), folds=folds, names=["m0", "m1", "m2"], settings=SMALL,
            sample=sample(labels),
        )
        for row, expected in zip(found, _loo(name, stack[kept], labels, folds), strict=True):
            assert (row.member, row.verdict) == (expected.member, expected.verdict)
            assert [row.weight, row.kept, row.refitted, row.nested, row.nested_difference, row.low, row.high] == (
                pytest.approx([expected.weight, expected.kept, expected.refitted, expected.nested,
                               expected.nested_difference, expected.low, expected.high], abs=1e-6))


def test_an_ensemble_of_one_has_nobody_to_leave_out() -> None:
    stack, labels, folds = members(1.0)
    assert _loo("blend", stack, labels, folds) == []


def test_a_method_without_weights_on_members_has_no_leave_one_out() -> None:
    stack, labels, folds = members(1.0, 0.5)
    with pytest.raises(ValueError, match="no weights on members"):
        _loo("stack_logistic", stack, labels, folds)


def test_verdicts() -> None:
    assert verdict(1e-6, 4e-5) == verdict(-4e-5, -1e-6) == "not distinguishable"
    assert [verdict(0.1, 0.2), verdict(-0.2, -0.1), verdict(-0.1, 0.1), verdict(0.0, 0.0)] == [
        "helps", "hurts", "not distinguishable", "not distinguishable"
    ]
