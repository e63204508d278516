"""The support vector machine and the boosted trees on the members' predictions."""

import lightgbm
import numpy as np
import pytest
from ensemble_cases import members

from pipeline.ensemble.contract import Predictions, Settings
from pipeline.ensemble.nested import nested_predictions
from pipeline.ensemble.simplex import softmax
from pipeline.metrics import log_loss
from pipeline.stackers import pairs, second_level
from pipeline.stackers.second_level import SECOND_LEVEL

every_method = pytest.mark.parametrize("name", SECOND_LEVEL)


def predicted(name: str, stack: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Fitted on the first three quarters of the rows; predictions of the others, whose labels are unknown."""
    view = Predictions(stack, labels).all()
    cut = 3 * len(labels) // 4
    fitted = SECOND_LEVEL[name].fit(view.at(slice(0, cut)), settings=Settings())
    return SECOND_LEVEL[name].combine(Predictions(stack[:, cut:], None).all(), fitted)


@every_method
def test_rows_sum_to_one_and_the_bytes_are_the_same_twice(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, classes=14, rows=600)
    stack[0, :5] = np.eye(14)[3]
    once = predicted(name, stack, labels)
    assert once.dtype == np.float32
    assert once.sum(axis=1) == pytest.approx(np.ones(150), abs=1e-5)
    assert once.min() >= 0
    assert once.tobytes() == predicted(name, stack, labels).tobytes()


@every_method
def test_they_learn_what_no_average_can(name: str) -> None:
    """A member that always says the next class: an average of two is confused, a stacker is not."""
    stack, labels, _ = members(3.0, 3.0, rows=1600)
    stack[1] = np.roll(stack[1], 1, axis=1)
    mean = log_loss(stack[:, 1200:].mean(axis=0), labels[1200:])
    assert log_loss(predicted(name, stack, labels), labels[1200:]) < 0.7 * mean


@every_method
def test_order_of_members_hardly_matters(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, rows=800)
    before, after = predicted(name, stack, labels), predicted(name, stack[[2, 0, 1]], labels)
    assert log_loss(after, labels[600:]) == pytest.approx(log_loss(before, labels[600:]), abs=0.01)


@every_method
def test_order_of_the_predicted_rows_does_not_matter(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, rows=600)
    order = np.random.default_rng(0).permutation(600)
    fitted = SECOND_LEVEL[name].fit(Predictions(stack, labels).all(), settings=Settings())
    before = SECOND_LEVEL[name].combine(Predictions(stack, None).all(), fitted)
    after = SECOND_LEVEL[name].combine(Predictions(stack, None).all().at(order), fitted)
    assert after == pytest.approx(before[order], abs=1e-5)


@every_method
def test_rare_and_absent_classes(name: str) -> None:
    stack, labels, _ = members(2.0, 1.5, rows=800, classes=6)
    labels[labels == 5] = 4
    labels[labels == 0] = 1
    labels[:2] = 0
    found = predicted(name, stack, labels)
    assert np.isfinite(found).all()
    assert found[:, 0].mean() < 0.1
    assert log_loss(found, labels[600:]) < log_loss(stack[:, 600:].mean(axis=0), labels[600:])


@every_method
def test_a_perfect_member_is_believed(name: str) -> None:
    stack, labels, _ = members(0.5, 0.5, 0.5, rows=1200)
    stack[1] = 0.02 + 0.9 * np.eye(5, dtype=np.float32)[labels]
    assert log_loss(predicted(name, stack, labels), labels[900:]) < 0.12


@every_method
@pytest.mark.parametrize("seed", range(2))
def test_shuffled_labels_score_at_chance_when_nested(name: str, seed: int) -> None:
    """Four standard errors below log C at most; above it what is left of the members' opinion."""
    stack, labels, folds = members(2.0, 1.5, 1.0, rows=1200, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(labels)
    view = Predictions(stack, shuffled).all()
    nested = nested_predictions(SECOND_LEVEL[name], view, folds=folds, settings=Settings())
    assert np.log(5) - 0.02 < log_loss(nested, shuffled) < np.log(5) + 0.15


def test_trees_share_out_the_candidates_and_leave_the_rest() -> None:
    stack, labels, _ = members(1.5, 1.0, classes=14, rows=800)
    found = predicted("stack_lightgbm", stack, labels)
    geometric = softmax(np.log(np.maximum(stack[:, 600:], 1e-6)).mean(axis=0))
    tail = np.argsort(-geometric, axis=1)[:, pairs.CANDIDATES:]
    kept, before = np.take_along_axis(found, tail, axis=1), np.take_along_axis(geometric, tail, axis=1)
    assert kept == pytest.approx(before, abs=1e-6)
    assert np.abs(found - geometric).max() > 0.05


def test_no_trees_are_the_geometric_mean() -> None:
    stack, labels, _ = members(1.5, 1.0, classes=14)
    view = Predictions(stack, labels).all()
    fitted = SECOND_LEVEL["stack_lightgbm"].fit(view, settings=Settings(shrinkage=1e12))
    geometric = softmax(np.log(np.maximum(stack, 1e-6)).mean(axis=0))
    assert SECOND_LEVEL["stack_lightgbm"].combine(view, fitted) == pytest.approx(geometric, abs=1e-5)


def test_features_of_a_pair() -> None:
    stack = np.array([[[0.6, 0.3, 0.1]], [[0.2, 0.7, 0.1]]], dtype=np.float32)
    view = Predictions(stack, None).all()
    mean = np.log(stack).mean(axis=0)
    candidates = pairs._candidates(mean)
    assert candidates.tolist() == [[1, 0, 2]]
    inputs = pairs._pairs(view, mean, candidates, np.log([0.5, 0.3, 0.2]))
    assert inputs.shape == (1, 3, 2 + 9)
    geometric = np.sqrt([0.12, 0.21, 0.01])
    p = geometric / geometric.sum()
    first = [np.log(0.3) - mean[0, 1], np.log(0.7) - mean[0, 1], mean[0, 1], 0, 0, (np.log(0.7) - np.log(0.3)) / 2, 0.5,
             np.log(0.3), -(p * np.log(p)).sum(), 0.5, 2]
    assert inputs[0, 0] == pytest.approx(first, abs=1e-5)
    assert inputs[0, 1, 3:5] == pytest.approx([mean[0, 1] - mean[0, 0], 1], abs=1e-5)
    assert inputs[0, 2, 6] == 0


def test_rows_that_end_the_boosting_are_not_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    train = lightgbm.train

    def spy(parameters, data, rounds, *, valid_sets, **rest):
        sizes.append((len(data.data), len(valid_sets[0].data)))
        return train(parameters, data, rounds, valid_sets=valid_sets, **rest)

    monkeypatch.setattr(lightgbm, "train", spy)
    stack, labels, _ = members(1.5, 1.0)
    SECOND_LEVEL["stack_lightgbm"].fit(Predictions(stack, labels).all(), settings=Settings())
    taught, held = sizes[0]
    assert taught + held == 400 * 5
    assert held == pytest.approx(0.2 * 400 * 5, abs=5 * 5)


def test_margins_that_the_link_sees_come_from_machines_without_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row's label changes: its own held margins may not, but for the parts, which go by the labels."""
    seen = []
    fit = second_level.fit_margins

    def spy(held: np.ndarray, labels: np.ndarray) -> np.ndarray:
        seen.append(held.copy())
        return fit(held, labels)

    monkeypatch.setattr(second_level, "fit_margins", spy)
    monkeypatch.setattr(second_level, "_parts", lambda labels, seed: np.arange(len(labels)) % second_level.PARTS)
    stack, labels, _ = members(1.5, 1.0, rows=200)
    for change in (0, 1):
        changed = labels.copy()
        changed[7] = (labels[7] + change) % 5
        SECOND_LEVEL["stack_svm"].fit(Predictions(stack, changed).all(), settings=Settings())
    assert seen[0][7].tobytes() == seen[1][7].tobytes()
    assert (seen[0][8] != seen[1][8]).any()


def test_parts_are_equal_shares_of_every_class() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [300, 90, 6, 1]))
    parts = second_level._parts(labels, 0)
    for label, count in ((0, 300), (1, 90), (2, 6)):
        assert np.bincount(parts[labels == label], minlength=3).tolist() == [count // 3] * 3


def test_wide_inputs_are_projected() -> None:
    stack, labels, _ = members(*[1.0] * 20, rows=500, classes=14)
    view = Predictions(stack, labels).all()
    fitted = SECOND_LEVEL["stack_svm"].fit(view, settings=Settings())
    assert fitted.model.weights.shape == (second_level.COMPONENTS + 1, 14)
    assert log_loss(SECOND_LEVEL["stack_svm"].combine(view, fitted), labels) < np.log(14)
