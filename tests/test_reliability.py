"""Reliability curve, calibration errors, Brier score and confusions."""

import numpy as np
import pytest
from ensemble_cases import members
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix
from sklearn.metrics import recall_score

from pipeline.ensemble.reliability import (
    brier_score,
    calibration_error,
    class_table,
    classwise_calibration_error,
    confusion_matrix,
    expected_calibration_error,
    reliability_curve,
    top_confusions,
)
from pipeline.metrics import log_loss

HAND = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
TRUTH = np.array([0, 1, 1, 0])


def test_curve_by_hand() -> None:
    """Confidences .6, .7 | .8, .9: one of two right in both bins."""
    curve = reliability_curve(HAND, TRUTH, bins=2)
    assert curve.confidence == pytest.approx([0.65, 0.85])
    assert curve.accuracy.tolist() == [0.5, 0.5]
    assert curve.count.tolist() == [2, 2]
    assert calibration_error(curve) == pytest.approx((0.15 + 0.35) / 2)


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_curve_is_scikit_learns(bins: int) -> None:
    stack, labels, _ = members(1.5, rows=500)
    top = stack[0].argmax(axis=1)
    confidence = stack[0].max(axis=1).astype(np.float64)
    accuracy, said = calibration_curve(top == labels, confidence, n_bins=bins, strategy="quantile")
    curve = reliability_curve(stack[0], labels, bins=bins)
    assert curve.accuracy == pytest.approx(accuracy)
    assert curve.confidence == pytest.approx(said)
    assert curve.count.sum() == 500
    assert curve.count.max() - curve.count.min() <= 2


def test_intervals_are_wilsons() -> None:
    stack, labels, _ = members(2.5, rows=300)
    curve = reliability_curve(stack[0], labels, bins=8, level=0.9)
    for share, count, low, high in zip(curve.accuracy, curve.count, curve.low, curve.high, strict=True):
        found = binomtest(round(share * count), int(count)).proportion_ci(0.9, method="wilson")
        assert (low, high) == pytest.approx((found.low, found.high), abs=1e-9)


def test_rows_of_one_confidence_share_a_bin() -> None:
    rows = np.tile([[0.75, 0.25]], (40, 1))
    curve = reliability_curve(rows, np.arange(40) % 4 // 3)
    assert (curve.confidence.tolist(), curve.accuracy.tolist(), curve.count.tolist()) == ([0.75], [0.75], [40])
    assert calibration_error(curve) == 0


def _guo(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    """Equation 3 of Guo et al., bin by bin."""
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    total = 0.0
    for edge in range(bins):
        inside = (confidence > edge / bins) & (confidence <= (edge + 1) / bins)
        if inside.any():
            total += inside.sum() * abs(right[inside].mean() - confidence[inside].mean())
    return total / len(labels)


@given(strength=st.floats(0, 4), classes=st.integers(2, 8), bins=st.integers(1, 20), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_ece_is_guos_whatever_the_order(strength, classes, bins, seed) -> None:
    stack, labels, _ = members(strength, rows=80, classes=classes, seed=seed)
    found = expected_calibration_error(stack[0], labels, bins=bins)
    assert found == pytest.approx(_guo(stack[0], labels, bins), abs=1e-9)
    order, swap = np.random.default_rng(seed).permutation(80), np.random.default_rng(seed).permutation(classes)
    assert expected_calibration_error(stack[0][order], labels[order], bins=bins) == pytest.approx(found)
    swapped = stack[0][:, swap], np.argsort(swap)[labels]
    assert expected_calibration_error(*swapped, bins=bins) == pytest.approx(found)
    assert classwise_calibration_error(*swapped, bins=bins) == pytest.approx(
        classwise_calibration_error(stack[0], labels, bins=bins))


def test_ece_by_hand() -> None:
    """Bins of a tenth hold their upper ends, so each row is alone in its bin."""
    assert expected_calibration_error(HAND, TRUTH, bins=10) == pytest.approx((0.1 + 0.8 + 0.3 + 0.6) / 4)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not() -> None:
    sure = np.eye(3)[[0, 1, 2, 0]]
    right, wrong = np.array([0, 1, 2, 0]), np.array([1, 2, 0, 1])
    assert [f(sure, right) for f in (expected_calibration_error, classwise_calibration_error, brier_score)] == [0, 0, 0]
    assert [f(sure, wrong) for f in (expected_calibration_error, brier_score)] == [1, 2]
    assert classwise_calibration_error(sure, wrong) == pytest.approx((3 + 3 + 2) / 12)


def test_classwise_ece_is_each_classes_own() -> None:
    stack, labels, _ = members(1.0, rows=200, classes=4)
    each = []
    for c in range(4):
        said, seen = stack[0][:, c].astype(np.float64), labels == c
        bin_of = np.clip(np.ceil(said * 10) - 1, 0, 9)
        each.append(sum(abs(seen[bin_of == b].sum() - said[bin_of == b].sum()) for b in range(10)) / 200)
    assert classwise_calibration_error(stack[0], labels, bins=10) == pytest.approx(np.mean(each))


def test_brier_is_the_squared_distance_from_the_one_hot_label() -> None:
    stack, labels, _ = members(1.0, rows=200)
    assert brier_score(stack[0], labels) == pytest.approx(((stack[0] - np.eye(5)[labels]) ** 2).sum(axis=1).mean())
    assert brier_score(HAND, TRUTH) == pytest.approx((2 * 0.1**2 + 2 * 0.8**2 + 2 * 0.3**2 + 2 * 0.6**2) / 4)


def test_class_table_is_scikit_learns_and_leaves_absent_classes_out() -> None:
    stack, labels, _ = members(1.5, rows=300, classes=6)
    labels = np.where(labels == 2, 3, labels)
    rows = class_table(stack[0], labels)
    top = stack[0].argmax(axis=1)
    assert [row.label for row in rows] == [0, 1, 3, 4, 5]
    for row in rows:
        own = labels == row.label
        assert (row.count, row.predicted) == (own.sum(), (top == row.label).sum())
        assert row.log_loss == pytest.approx(log_loss(stack[0][own], labels[own]))
        assert row.accuracy == pytest.approx(recall_score(own, top == row.label))
    assert sum(row.count * row.log_loss for row in rows) / 300 == pytest.approx(log_loss(stack[0], labels))


def test_confusions_are_counted_and_sorted() -> None:
    labels, tops = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 1, 1, 0, 1, 0, 2])
    matrix = confusion_matrix(np.eye(4)[tops], labels)
    assert matrix.tolist() == sklearn_confusion_matrix(labels, tops, labels=range(4)).tolist()
    found = [(c.actual, c.predicted, c.count, c.share) for c in top_confusions(matrix)]
    assert found == [(0, 1, 2, 2 / 3), (1, 0, 1, 1 / 2), (2, 0, 1, 1 / 3), (2, 1, 1, 1 / 3)]
    assert [(c.actual, c.predicted) for c in top_confusions(matrix, most=2)] == [(0, 1), (1, 0)]
    assert top_confusions(np.diag([3, 4])) == []
