"""Confident learning: thresholds, joint and candidates; flipped labels of a known truth; cleanlab where it is."""

import numpy as np
import pytest
from ensemble_cases import members
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ensemble.label_errors import confident_class, label_error_candidates, thresholds

HAND = np.array([[0.9, 0.1, 0.0], [0.7, 0.3, 0.0], [0.2, 0.8, 0.0], [0.4, 0.6, 0.0], [0.05, 0.95, 0.0]])
GIVEN = np.array([0, 0, 1, 1, 0])


def confident_joint(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Number of rows by given label and confident class, `(C, C)`, row by row; others are not counted (equation 1)."""
    joint = np.zeros((probabilities.shape[1],) * 2, dtype=int)
    for given_label, confident in zip(labels, confident_class(probabilities, labels), strict=True):
        if confident >= 0:
            joint[given_label, confident] += 1
    return joint


def _flipped(seed: int, *, share: float, strength: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The mean of three members that know the truth, the labels with some flipped, and which were."""
    stack, truth, _ = members(strength, strength, strength, rows=4000, classes=10, seed=seed)
    random = np.random.default_rng(seed)
    wrong = random.random(len(truth)) < share
    return stack.mean(axis=0), np.where(wrong, (truth + random.integers(1, 10, size=len(truth))) % 10, truth), wrong


def test_thresholds_joint_and_candidates_by_hand() -> None:
    """Thresholds (.9 + .7 + .05) / 3 and (.8 + .6) / 2; row 3 reaches neither, row 4 is given 0 and surely 1."""
    assert thresholds(HAND, GIVEN) == pytest.approx([0.55, 0.7, np.inf])
    assert confident_class(HAND, GIVEN).tolist() == [0, 0, 1, -1, 1]
    assert confident_joint(HAND, GIVEN).tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
    [found] = label_error_candidates(HAND, GIVEN)
    assert (found.row, found.given, found.suggested) == (4, 0, 1)
    assert (found.p_given, found.p_suggested, found.margin) == pytest.approx((0.05, 0.95, -0.9))


def test_of_several_confident_classes_the_most_probable_counts() -> None:
    rows = np.array([[0.45, 0.55], [0.4, 0.6], [0.5, 0.5], [0.5, 0.5]])
    assert thresholds(rows, np.array([0, 0, 1, 1])).tolist() == pytest.approx([0.425, 0.5])
    assert confident_class(rows, np.array([0, 0, 1, 1])).tolist() == [1, 1, 0, 0]


def test_a_class_whose_rows_all_have_one_probability_reaches_it() -> None:
    rows, labels = np.tile(np.array([[0.1, 0.9]], dtype=np.float32), (7, 1)), np.array([0] * 7)
    assert confident_class(rows, labels).tolist() == [0] * 7
    assert label_error_candidates(rows, labels) == []


def test_truthful_and_sure_probabilities_doubt_no_label() -> None:
    labels = np.arange(30) % 3
    assert label_error_candidates(0.97 * np.eye(3)[labels] + 0.01, labels) == []


@given(strength=st.floats(0.5, 4), seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_candidates_follow_rows_and_classes_and_come_in_order(strength, seed) -> None:
    stack, labels, _ = members(strength, rows=120, seed=seed)
    found = label_error_candidates(stack[0], labels)
    assert [c.margin for c in found] == sorted(c.margin for c in found)
    joint = confident_joint(stack[0], labels)
    assert len(found) <= joint.sum() - np.trace(joint)
    for c in found:
        assert c.given == labels[c.row] != c.suggested
        assert (c.p_given, c.p_suggested) == (stack[0][c.row, c.given], stack[0][c.row, c.suggested])
        assert c.margin == pytest.approx(c.p_given - np.delete(stack[0][c.row], c.given).max())
        assert c.margin < 0
    rows, swap = np.random.default_rng(seed).permutation(120), np.random.default_rng(seed).permutation(5)
    moved = label_error_candidates(stack[0][rows], labels[rows])
    assert {(rows[c.row], c.suggested) for c in moved} == {(c.row, c.suggested) for c in found}
    renamed = label_error_candidates(stack[0][:, swap], np.argsort(swap)[labels])
    assert [(c.row, swap[c.suggested]) for c in renamed] == [(c.row, c.suggested) for c in found]


@pytest.mark.parametrize("seed", range(3))
def test_flipped_labels_are_found(seed: int) -> None:
    """5% flipped under strong members: nearly all candidates were flipped, and most of the flipped are candidates."""
    probabilities, labels, wrong = _flipped(seed, share=0.05, strength=5.0)
    found = np.array([c.row for c in label_error_candidates(probabilities, labels)])
    assert wrong[found].mean() >= 0.99
    assert 0.65 <= wrong[found].sum() / wrong.sum() <= 0.85


@pytest.mark.parametrize("seed", range(3))
def test_the_head_of_the_list_is_the_surest(seed: int) -> None:
    """Weaker members, 5% flipped: as many candidates as half of the flipped rows are nearly all true."""
    probabilities, labels, wrong = _flipped(seed, share=0.05, strength=2.5)
    found = np.array([c.row for c in label_error_candidates(probabilities, labels)])
    half = wrong.sum() // 2
    assert wrong[found[:half]].mean() >= 0.95
    assert wrong[found].mean() >= 0.93
    assert wrong[found].sum() / wrong.sum() >= 0.45


@pytest.mark.parametrize("seed", range(3))
def test_without_flips_few_rows_are_doubted(seed: int) -> None:
    probabilities, labels, _ = _flipped(seed, share=0.0, strength=5.0)
    assert len(label_error_candidates(probabilities, labels)) <= 0.01 * len(labels)


@pytest.mark.parametrize(("strength", "share", "most"), [(5.0, 0.05, 0), (2.5, 0.05, 0), (1.0, 0.2, 2)])
def test_candidates_and_their_order_are_cleanlabs(strength: float, share: float, most: int) -> None:
    cleanlab = pytest.importorskip("cleanlab.filter")
    probabilities, labels, _ = _flipped(0, share=share, strength=strength)
    theirs = cleanlab.find_label_issues(
        labels, probabilities, filter_by="confident_learning", return_indices_ranked_by="normalized_margin", n_jobs=1)
    ours = label_error_candidates(probabilities, labels)
    margin = {c.row: c.margin for c in ours}
    common = [row for row in theirs.tolist() if row in margin]
    assert [margin[row] for row in common] == sorted(margin[row] for row in common)
    doubtful = set(margin) ^ set(theirs.tolist())       # theirs: of several confident classes, the overall argmax
    reached = probabilities >= thresholds(probabilities, labels)
    assert not any(reached[row, probabilities[row].argmax()] for row in doubtful)
    assert len(doubtful) <= most
