"""Our metrics against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics as reference

from pipeline.metrics import METRICS, all_scores, row_log_loss


@pytest.fixture(name="case", params=[(400, 6), (400, 10), (60, 30)])
def _case(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    rows, classes = request.param
    random = np.random.default_rng(classes)
    probabilities = random.dirichlet(np.full(classes, 0.5), size=rows)
    return probabilities, random.integers(0, classes, size=rows)


def test_log_loss_is_scikit_learns(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    expected = reference.log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1]))
    assert METRICS["log_loss"].score(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_accuracy_is_scikit_learns(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    expected = reference.accuracy_score(labels, probabilities.argmax(axis=1))
    assert METRICS["accuracy"].score(probabilities, labels) == expected


def test_top_5_is_scikit_learns(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    classes = probabilities.shape[1]
    expected = reference.top_k_accuracy_score(labels, probabilities, k=5, labels=np.arange(classes))
    assert METRICS["top_5"].score(probabilities, labels) == expected


def test_macro_f1_is_scikit_learns(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    expected = reference.f1_score(labels, probabilities.argmax(axis=1), average="macro", zero_division=0)
    assert METRICS["macro_f1"].score(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_log_loss_clips_like_kaggle() -> None:
    impossible = np.array([[0.0, 1.0]])
    assert row_log_loss(impossible, np.array([0]))[0] == pytest.approx(-np.log(1e-15))
    assert row_log_loss(impossible, np.array([1]))[0] == pytest.approx(1e-15, rel=0.2)


def test_ties_of_top_5_go_to_the_first_classes() -> None:
    uniform = np.full((10, 10), 0.1)
    assert METRICS["top_5"].per_row(uniform, np.arange(10)).tolist() == [1.0] * 5 + [0.0] * 5


def test_losses_point_down_and_every_metric_is_scored(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    perfect = np.eye(probabilities.shape[1])[labels]
    for name, metric in METRICS.items():
        assert metric.loss(perfect, labels) < metric.loss(probabilities, labels), name
        if metric.per_row is not None:
            assert metric.per_row(probabilities, labels).mean() == metric.score(probabilities, labels)
    assert all_scores(perfect, labels) == {
        "log_loss": pytest.approx(0.0, abs=1e-12), "accuracy": 1.0, "top_5": 1.0, "macro_f1": 1.0
    }
