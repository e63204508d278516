"""How differently the members err: pairwise measures, the ambiguity decomposition, and the order of the dendrogram."""

import numpy as np
import pytest
from ensemble_cases import members
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from pipeline.ensemble.diversity import (
    Ambiguity,
    brier_ambiguity,
    correctness,
    disagreement,
    double_fault,
    error_correlation,
    leaf_order,
    log_loss_ambiguity,
    merge_tree,
    q_statistic,
)
from pipeline.metrics import log_loss

DECOMPOSITIONS = (log_loss_ambiguity, brier_ambiguity)


def _brier(probabilities: np.ndarray, labels: np.ndarray) -> float:
    return float(((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(axis=1).mean())


@pytest.mark.parametrize("decompose", DECOMPOSITIONS)
@given(count=st.integers(1, 6), classes=st.integers(2, 9), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_mean_member_loses_what_the_ensemble_loses_and_the_ambiguity(decompose, count, classes, seed) -> None:
    stack, labels, _ = members(*np.linspace(0, 4, count), rows=60, classes=classes, seed=seed)
    found = decompose(stack, labels)
    assert found.mean_loss == pytest.approx(found.ensemble_loss + found.ambiguity, abs=2e-6)
    assert found.ambiguity == pytest.approx(found.member_distances.mean(), abs=1e-12)
    assert (found.member_distances >= 0).all()


def test_log_loss_ambiguity_by_hand() -> None:
    """Members (.8, .2) and (.2, .8): their normalised geometric mean is (.5, .5)."""
    stack, labels = np.array([[[0.8, 0.2]], [[0.2, 0.8]]]), np.array([0])
    found = log_loss_ambiguity(stack, labels)
    divergence = 0.5 * np.log(0.5 / 0.8) + 0.5 * np.log(0.5 / 0.2)
    assert found.member_losses == pytest.approx([-np.log(0.8), -np.log(0.2)])
    assert found.ensemble_loss == pytest.approx(np.log(2))
    assert found.member_distances == pytest.approx([divergence, divergence])


def test_brier_ambiguity_by_hand() -> None:
    stack, labels = np.array([[[0.8, 0.2]], [[0.2, 0.8]]]), np.array([0])
    found = brier_ambiguity(stack, labels)
    assert found.member_losses == pytest.approx([2 * 0.2**2, 2 * 0.8**2])
    assert found.ensemble_loss == pytest.approx(0.5)
    assert found.member_distances == pytest.approx([2 * 0.3**2, 2 * 0.3**2])


def test_the_parts_are_those_of_the_naive_computation() -> None:
    stack, labels, _ = members(2.0, 1.0, 0.3, rows=300, classes=7)
    exact = stack.astype(np.float64)
    geometric = np.exp(np.log(exact).mean(axis=0))                               # (N, C)
    geometric /= geometric.sum(axis=1, keepdims=True)
    found = log_loss_ambiguity(stack, labels)
    assert found.member_losses == pytest.approx([log_loss(member, labels) for member in stack])
    assert found.ensemble_loss == pytest.approx(log_loss(geometric, labels), abs=1e-7)
    divergences = [(geometric * np.log(geometric / member)).sum(axis=1).mean() for member in exact]
    assert found.member_distances == pytest.approx(divergences, abs=1e-6)
    mean = exact.mean(axis=0)
    found = brier_ambiguity(stack, labels)
    assert found.member_losses == pytest.approx([_brier(member, labels) for member in stack], abs=1e-6)
    assert found.ensemble_loss == pytest.approx(_brier(mean, labels), abs=1e-6)
    assert found.member_distances == pytest.approx([((m - mean) ** 2).sum(axis=1).mean() for m in exact], abs=1e-6)


@pytest.mark.parametrize("decompose", DECOMPOSITIONS)
def test_copies_of_one_member_have_no_ambiguity(decompose) -> None:
    stack, labels, _ = members(1.0)
    found: Ambiguity = decompose(np.repeat(stack, 3, axis=0), labels)
    assert found.ambiguity == pytest.approx(0, abs=1e-6)
    assert found.ensemble_loss == pytest.approx(decompose(stack, labels).mean_loss, abs=1e-6)


def test_a_zero_for_the_true_class_stays_finite() -> None:
    stack = np.array([[[0.0, 1.0]], [[0.5, 0.5]]], dtype=np.float32)
    found = log_loss_ambiguity(stack, np.array([0]))
    assert found.member_losses == pytest.approx([-np.log(1e-15), np.log(2)], rel=1e-6)
    assert found.mean_loss == pytest.approx(found.ensemble_loss + found.ambiguity, abs=1e-5)


def test_q_and_double_fault_are_those_of_the_two_by_two_table() -> None:
    stack, labels, _ = members(2.0, 1.0, 0.5, 0.0, rows=300)
    correct = correctness(stack, labels)
    q, fault = q_statistic(correct), double_fault(correct)
    for i in range(4):
        for j in range(4):
            (d, c), (b, a) = confusion_matrix(correct[i], correct[j], labels=[0, 1])
            assert fault[i, j] == d / 300
            assert q[i, j] == pytest.approx((a * d - b * c) / (a * d + b * c))
    assert np.diag(fault) == pytest.approx(1 - correct.mean(axis=1))


def test_q_by_hand() -> None:
    correct = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]], dtype=np.float64)
    q = q_statistic(correct)
    assert [q[0, 1], q[0, 2], q[0, 3], q[0, 4], q[4, 4]] == [0, -1, 1, 0, 1]     # independent, opposite, same, no error
    assert q.tolist() == q.T.tolist()


@pytest.mark.parametrize("measure", [
    error_correlation,
    lambda stack, labels: disagreement(stack),
    lambda stack, labels: q_statistic(correctness(stack, labels)),
    lambda stack, labels: double_fault(correctness(stack, labels)),
], ids=["correlation", "disagreement", "q", "double fault"])
def test_pairwise_measures_follow_members_and_ignore_the_order_of_rows_and_classes(measure) -> None:
    stack, labels, _ = members(2.0, 1.0, 0.5, rows=200)
    random = np.random.default_rng(0)
    base = measure(stack, labels)
    rows, classes = random.permutation(200), random.permutation(5)
    assert measure(stack[:, rows], labels[rows]) == pytest.approx(base)
    assert measure(stack[:, :, classes], np.argsort(classes)[labels]) == pytest.approx(base)
    assert measure(stack[[2, 0, 1]], labels) == pytest.approx(base[np.ix_([2, 0, 1], [2, 0, 1])])
    assert base == pytest.approx(base.T)


def test_the_tree_merges_by_mean_distance_and_keeps_like_members_together() -> None:
    correlation = np.array([[1.0, 0.2, 0.9, 0.3], [0.2, 1.0, 0.1, 0.8], [0.9, 0.1, 1.0, 0.2], [0.3, 0.8, 0.2, 1.0]])
    tree = merge_tree(correlation)
    assert tree[:, 2] == pytest.approx([0.1, 0.2, 1 - np.mean([0.2, 0.3, 0.1, 0.2])])
    assert tree[:, 3].tolist() == [2, 2, 4]
    assert leaf_order(tree).tolist() in ([2, 0, 3, 1], [1, 3, 0, 2])            # 0 beside 3: likest across


def test_one_member_is_its_own_order() -> None:
    tree = merge_tree(np.ones((1, 1)))
    assert (tree.shape, leaf_order(tree).tolist()) == ((0, 4), [0])


def test_error_correlation_is_numpys_and_survives_constant_errors() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.5)
    errors = 1 - stack[:, np.arange(len(labels)), labels]
    assert error_correlation(stack, labels) == pytest.approx(np.corrcoef(errors), abs=1e-6)
    constant = np.concatenate([stack[:1], np.full_like(stack[:1], 0.2)])
    assert error_correlation(constant, labels) == pytest.approx(np.eye(2), abs=1e-12)


def test_disagreement_counts_rows_with_different_tops() -> None:
    stack = np.eye(3)[np.array([[0, 0, 1, 2], [0, 1, 1, 2], [2, 2, 2, 2]])]
    assert disagreement(stack).tolist() == [[0, 0.25, 0.75], [0.25, 0, 0.75], [0.75, 0.75, 0]]
