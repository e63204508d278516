"""Laws of the whole table of methods."""

from typing import get_args

import numpy as np
import pytest
from ensemble_cases import members
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.ensemble import MethodName
from pipeline.ensemble.contract import Fitted, Settings, drop
from pipeline.ensemble.means import log_linear
from pipeline.ensemble.methods import METHODS
from pipeline.ensemble.nested import in_sample_predictions
from pipeline.metrics import log_loss

SMALL = Settings(greedy_steps=8)
LINEAR = ("uniform", "greedy", "blend")
every_method = pytest.mark.parametrize("name", METHODS)


def _predict(name: str, stack: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return in_sample_predictions(METHODS[name], stack, labels=labels, settings=SMALL)[1]


def test_the_table_has_the_names_of_the_config_in_order_of_simplicity() -> None:
    assert tuple(METHODS) == get_args(MethodName)
    assert [m.simplicity for m in METHODS.values()] == list(range(len(METHODS)))


@every_method
def test_rows_and_weights_sum_to_one(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.0)
    stack[0, :5] = [0, 0, 1, 0, 0]
    fitted, predictions = in_sample_predictions(METHODS[name], stack, labels=labels, settings=SMALL)
    assert predictions.sum(axis=1) == pytest.approx(np.ones(len(labels)), abs=1e-6)
    assert predictions.min() >= 0
    assert fitted.weights.sum() == pytest.approx(1)
    assert fitted.weights.min() >= 0


@every_method
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_order_of_members_rows_and_classes_does_not_matter(name: str, seed: int) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, rows=80, classes=4, seed=seed)
    random = np.random.default_rng(seed)
    order, rows, classes = random.permutation(3), random.permutation(80), random.permutation(4)
    before = _predict(name, stack, labels)
    shuffled = stack[order][:, rows][:, :, classes]
    after = _predict(name, shuffled, np.argsort(classes)[labels[rows]])
    assert after == pytest.approx(before[rows][:, classes], abs=2e-4)


@pytest.mark.parametrize("name", [*LINEAR, "geometric"])
def test_all_weight_on_one_member_returns_that_member(name: str) -> None:
    stack, _, _ = members(1.5, 1.0, 0.4)
    method = METHODS[name]
    for m in range(3):
        found = method.combine(method.embed(stack, stack), Fitted(np.eye(3)[m]))
        assert found == pytest.approx(stack[m], abs=1e-6)


@pytest.mark.parametrize("name", ["vote", "weighted_vote"])
def test_all_votes_with_one_member_decide_like_that_member(name: str) -> None:
    stack, _, _ = members(1.5, 1.0, 0.4)
    for m in range(3):
        found = METHODS[name].combine(stack, Fitted(np.eye(3)[m]))
        assert (found.argmax(axis=1) == stack[m].argmax(axis=1)).all()


@every_method
def test_copies_of_one_member_decide_like_one(name: str) -> None:
    stack, labels, _ = members(1.5)
    assert _predict(name, np.repeat(stack, 3, axis=0), labels)[:, 0].shape == labels.shape
    once, thrice = _predict(name, stack, labels), _predict(name, np.repeat(stack, 3, axis=0), labels)
    assert (once.argmax(axis=1) == thrice.argmax(axis=1)).all()
    if name not in ("vote", "weighted_vote"):  # the tie-break's share of the tally depends on the number of votes
        assert thrice == pytest.approx(once, abs=1e-5)


@every_method
def test_embedding_is_member_wise(name: str) -> None:
    stack, _, _ = members(1.5, 1.0, 0.4)
    method = METHODS[name]
    prepared = method.prepare(stack)
    whole = method.embed(prepared[:, :300], prepared[:, 300:])
    for m in range(3):
        alone = method.prepare(stack[m:m + 1])
        assert (method.embed(alone[:, :300], alone[:, 300:])[0] == whole[m]).all()
    assert (method.embed(stack[:, :300], stack[:, 300:]) == whole).all()


def test_uniform_and_geometric_means_of_two_rows() -> None:
    stack = np.array([[[0.8, 0.2]], [[0.4, 0.6]]], dtype=np.float32)
    labels = np.array([0])
    assert _predict("uniform", stack, labels)[0] == pytest.approx([0.6, 0.4], abs=1e-6)
    root = np.sqrt([0.8 * 0.4, 0.2 * 0.6])
    assert _predict("geometric", stack, labels)[0] == pytest.approx(root / root.sum(), abs=1e-6)


def test_geometric_mean_survives_zeros_and_never_exceeds_the_mean_of_the_losses() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4)
    assert log_loss(_predict("geometric", stack, labels), labels) <= np.mean([log_loss(p, labels) for p in stack])
    zeros = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=np.float32)
    assert _predict("geometric", zeros, np.array([0]))[0] == pytest.approx([0.5, 0.5])
    wide = np.log(np.full((2, 1, 3), 1e-15, dtype=np.float32))
    assert log_linear(wide, Fitted(np.array([0.5, 0.5])))[0] == pytest.approx([1 / 3] * 3)


def test_blend_is_the_best_linear_method_in_sample() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, 0.0)
    losses = {name: log_loss(_predict(name, stack, labels), labels) for name in LINEAR}
    assert losses["blend"] <= min(losses.values()) + 1e-6
    assert losses["blend"] <= min(log_loss(p, labels) for p in stack) + 1e-6


def test_drop_renormalises_and_falls_back_to_equal_weights() -> None:
    fitted = Fitted(np.array([0.5, 0.3, 0.2]), power=2.0, gap=0.0)
    assert drop(fitted, 0).weights == pytest.approx([0.6, 0.4])
    assert drop(fitted, 0).power == 2.0
    assert drop(fitted, 0).gap is None
    assert drop(Fitted(np.array([1.0, 0.0, 0.0])), 0).weights == pytest.approx([0.5, 0.5])
