"""Outcomes score like the predictions that they stand for, on the rows as they are and on repeated ones."""

import numpy as np
import pytest
from ensemble_cases import NAMES, SMALL, members, method, view_of
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from pipeline.ensemble.nested import in_sample
from pipeline.ensemble.outcomes import losses, method_outcome, outcome, resampled_losses, score, sign
from pipeline.metrics import METRICS, Metric

every_metric = pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))


def _predictions(rows: int, classes: int, seed: int, *, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Predictions `(S, N, C)` and labels; the last class is never a label, and the first is never predicted."""
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.5), size=(count, rows))
    probabilities[:, :, 0] = 0
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    return probabilities, random.integers(0, classes - 1, size=rows)


def _scikit_learns(metric: Metric, predictions: np.ndarray, labels: np.ndarray) -> float:
    classes, top = np.arange(predictions.shape[1]), predictions.argmax(axis=1)
    if metric.name == "log_loss":
        return reference.log_loss(labels, np.clip(predictions, 1e-15, 1), labels=classes)
    if metric.name == "accuracy":
        return reference.accuracy_score(labels, top)
    if metric.name == "top_5":
        return reference.top_k_accuracy_score(labels, predictions, k=5, labels=classes)
    return reference.f1_score(labels, top, average="macro", zero_division=0)


@every_metric
@pytest.mark.parametrize(("rows", "classes"), [(300, 8), (40, 25)], ids=["common", "rare and absent"])
def test_scores_of_outcomes_are_scikit_learns(metric: Metric, rows: int, classes: int) -> None:
    (predictions,), labels = _predictions(rows, classes, seed=1)
    if metric.name == "log_loss":                           # scikit-learn warns where clipped rows do not sum to one
        predictions = 0.9 * predictions + 0.1 / classes
    outcomes = outcome(predictions, labels, metric=metric)
    assert (outcomes.shape, outcomes.dtype) == ((rows,), np.float64)
    found = score(outcomes, labels, metric=metric, classes=classes)
    assert found == pytest.approx(_scikit_learns(metric, predictions, labels), abs=1e-12)
    assert found == pytest.approx(metric.score(predictions, labels), abs=1e-12)


@every_metric
def test_losses_are_scores_with_their_sign_turned_where_more_is_better(metric: Metric) -> None:
    predictions, labels = _predictions(100, 8, seed=2, count=3)
    outcomes = np.stack([outcome(each, labels, metric=metric) for each in predictions])
    found = losses(outcomes, labels, metric=metric, classes=8)
    assert found == pytest.approx([metric.loss(each, labels) for each in predictions], abs=1e-12)
    assert [sign(metric) * loss for loss in found] == pytest.approx(
        [score(each, labels, metric=metric, classes=8) for each in outcomes], abs=1e-12)


@every_metric
@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 40), classes=st.integers(2, 9), seed=st.integers(0, 10**6))
def test_resampled_losses_are_those_of_rows_repeated_one_by_one(
    metric: Metric, rows: int, classes: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    predictions, labels = _predictions(rows, classes, seed, count=2)
    counts = random.integers(0, 4, size=(3, rows))
    counts[:, random.integers(0, rows)] += 1
    outcomes = np.stack([outcome(each, labels, metric=metric) for each in predictions])
    found = resampled_losses(outcomes, labels, counts.astype(np.float64), metric=metric, classes=classes)
    expected = [[metric.loss(np.repeat(each, times, axis=0), np.repeat(labels, times)) for each in predictions]
                for times in counts]
    assert found == pytest.approx(np.array(expected), abs=1e-12)


@every_metric
@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 400), count=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_equal_outcomes_have_equal_losses_to_the_bit(metric: Metric, rows: int, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    each = random.integers(0, 4, size=rows) if metric.per_row is None else random.exponential(size=rows)
    found = losses(np.repeat(each[None].astype(float), count, axis=0), np.arange(rows) % 4, metric=metric, classes=4)
    assert len(set(found.tolist())) == 1


@every_metric
@pytest.mark.parametrize("name", NAMES)
def test_the_outcome_of_a_method_is_that_of_its_predictions(name: str, metric: Metric) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, classes=8)
    stack[:, 0] = np.eye(8, dtype=np.float32)[(labels[0] + 1) % 8]              # every member is certain, and wrong
    view = view_of(stack, labels)
    fitted, predictions = in_sample(method(name), view, settings=SMALL)
    found = method_outcome(method(name), view, fitted, metric=metric)
    assert found == pytest.approx(outcome(predictions, labels, metric=metric), rel=1e-5, abs=1e-5)


def test_outcomes_by_hand() -> None:
    predictions = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    labels = np.array([0, 1])
    expected = {"log_loss": [-np.log(0.5), -np.log(0.2)], "accuracy": [-1, 0], "top_5": [-1, -1], "macro_f1": [0, 2]}
    for name, values in expected.items():
        assert outcome(predictions, labels, metric=METRICS[name]) == pytest.approx(values)
