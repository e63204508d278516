"""Votes against loops over rows."""

import numpy as np
import pytest
from ensemble_cases import SMALL, members, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ensemble.contract import Fitted, equal_weights
from pipeline.ensemble.votes import fit_log_odds, soft_count, vote_link

EQUAL = [np.full(4, 0.25), np.array([0.4, 0.3, 0.2, 0.1])]
weightings = pytest.mark.parametrize("weights", EQUAL, ids=["majority", "weighted"])


@weightings
def test_votes_against_a_loop(weights: np.ndarray) -> None:
    stack, _, _ = members(1.0, 0.5, 0.2, 0.8, rows=150)
    expected = np.zeros(stack.shape[1:])
    for i in range(150):
        for weight, member in zip(weights, stack[:, i], strict=True):
            expected[i, int(np.argmax(member))] += 4 * weight
            expected[i] += weight * member
    found = vote_link(view_of(stack), Fitted(weights))
    assert found == pytest.approx(expected / 5, abs=1e-6)
    assert found.sum(axis=1) == pytest.approx(np.ones(150), abs=1e-6)


@weightings
def test_soft_counts_against_a_loop(weights: np.ndarray) -> None:
    stack, _, _ = members(1.0, 0.5, 0.2, 0.8, rows=150)
    expected = np.zeros(stack.shape[1:])
    for i in range(150):
        for weight, member in zip(weights, stack[:, i], strict=True):
            expected[i, int(np.argmax(member))] += 4 * weight * member.max()
            expected[i] += weight * member
    expected /= expected.sum(axis=1, keepdims=True)
    assert soft_count(view_of(stack), Fitted(weights)) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 7), classes=st.integers(2, 5), seed=st.integers(0, 10**6))
def test_the_majority_wins_and_a_tie_goes_to_the_larger_mean_probability(count: int, classes: int, seed: int) -> None:
    stack, _, _ = members(*np.linspace(0, 1, count), rows=60, classes=classes, seed=seed)
    decided = vote_link(view_of(stack), Fitted(equal_weights(count))).argmax(axis=1)
    for i, row in enumerate(stack.transpose(1, 0, 2).astype(np.float64)):
        votes = np.bincount(row.argmax(axis=1), minlength=classes)
        tied = np.flatnonzero(votes == votes.max())
        assert decided[i] == tied[row.mean(axis=0)[tied].argmax()]


def test_one_vote_more_beats_any_probability_and_a_tie_goes_by_the_mean() -> None:
    two_to_one = np.array([[[0.4, 0.3, 0.3]], [[0.4, 0.3, 0.3]], [[0.0, 1.0, 0.0]]], dtype=np.float32)
    assert vote_link(view_of(two_to_one), Fitted(equal_weights(3))).argmax() == 0
    assert vote_link(view_of(two_to_one[1:]), Fitted(equal_weights(2))).argmax() == 1


def test_a_sure_voter_counts_more_than_two_unsure_ones_by_soft_count() -> None:
    two_to_one = np.array([[[0.4, 0.3, 0.3]], [[0.4, 0.3, 0.3]], [[0.0, 1.0, 0.0]]], dtype=np.float32)
    found = soft_count(view_of(two_to_one), Fitted(equal_weights(3)))
    expected = np.array([0.8 + 0.8 / 3, 1.0 + 1.6 / 3, 0.2])
    assert found[0] == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_a_member_votes_for_the_first_of_equals() -> None:
    level = np.full((1, 1, 3), 1 / 3, dtype=np.float32)
    assert vote_link(view_of(level), Fitted(np.ones(1)))[0] == pytest.approx([4 / 6, 1 / 6, 1 / 6], abs=1e-6)


def test_weights_are_the_log_odds_above_chance() -> None:
    labels = np.zeros(99, dtype=int)
    stack = np.zeros((3, 99, 3), dtype=np.float32)
    for member, hits in enumerate((80, 60, 10)):
        stack[member, :hits, 0] = 1
        stack[member, hits:, 1] = 1
    weights = fit_log_odds(view_of(stack, labels), settings=SMALL).weights
    raw = [np.log(80.5 / 19.5 * 2), np.log(60.5 / 39.5 * 2), 1e-6]
    assert weights == pytest.approx(np.array(raw) / sum(raw))


def test_one_strong_member_outvotes_two_weak_ones() -> None:
    votes = view_of(np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]], dtype=np.float32))
    assert vote_link(votes, Fitted(np.array([0.6, 0.2, 0.2]))).argmax() == 0
    assert vote_link(votes, Fitted(equal_weights(3))).argmax() == 1
