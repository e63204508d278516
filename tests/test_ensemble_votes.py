"""Votes against a loop over rows."""

import numpy as np
import pytest
from ensemble_cases import members

from pipeline.ensemble.contract import Fitted, Settings, equal_weights
from pipeline.ensemble.votes import fit_log_odds, vote_link


def test_majority_against_a_loop() -> None:
    stack, _, _ = members(1.0, 0.5, 0.2, 0.8, rows=150)
    expected = np.zeros(stack.shape[1:])
    for i in range(150):
        for member in stack[:, i]:
            expected[i, int(np.argmax(member))] += 1
            expected[i] += member / 4
    found = vote_link(stack, Fitted(equal_weights(4)))
    assert found == pytest.approx(expected / 5, abs=1e-6)
    assert found.sum(axis=1) == pytest.approx(np.ones(150), abs=1e-6)


def test_one_vote_more_beats_any_probability_and_a_tie_goes_by_the_mean() -> None:
    two_to_one = np.array([[[0.4, 0.3, 0.3]], [[0.4, 0.3, 0.3]], [[0.0, 1.0, 0.0]]], dtype=np.float32)
    assert vote_link(two_to_one, Fitted(equal_weights(3))).argmax() == 0
    tie = two_to_one[1:]
    assert vote_link(tie, Fitted(equal_weights(2))).argmax() == 1


def test_weights_are_the_log_odds_above_chance() -> None:
    labels = np.zeros(99, dtype=int)
    stack = np.zeros((3, 99, 3), dtype=np.float32)
    for member, hits in enumerate((80, 60, 10)):
        stack[member, :hits, 0] = 1
        stack[member, hits:, 1] = 1
    weights = fit_log_odds(stack, labels, settings=Settings()).weights
    raw = [np.log(80.5 / 19.5 * 2), np.log(60.5 / 39.5 * 2), 1e-6]
    assert weights == pytest.approx(np.array(raw) / sum(raw))


def test_one_strong_member_outvotes_two_weak_ones() -> None:
    votes = np.array([[[1.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]], dtype=np.float32)
    assert vote_link(votes, Fitted(np.array([0.6, 0.2, 0.2]))).argmax() == 0
    assert vote_link(votes, Fitted(equal_weights(3))).argmax() == 1
