"""Per-class weights and the logistic second level: their limits, their optima by other solvers, and rare classes."""

import numpy as np
import pytest
from ensemble_cases import members
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression

from pipeline.ensemble import logistic
from pipeline.ensemble.class_weights import (
    PSEUDO_ROWS,
    class_weights_link,
    common_weights,
    cross_entropy,
    fit_class_weights,
)
from pipeline.ensemble.contract import Fitted, Method, Predictions, Settings, drop, equal_weights
from pipeline.ensemble.logistic import fit_logistic, logistic_link
from pipeline.ensemble.means import log_linear
from pipeline.ensemble.nested import nested_predictions
from pipeline.metrics import log_loss

METHODS = {
    "class_weights": Method("class_weights", fit_class_weights, class_weights_link, 9),
    "logistic": Method("logistic", fit_logistic, logistic_link, 10),
}
every_method = pytest.mark.parametrize("name", METHODS)


def fitted_and_predicted(name: str, stack: np.ndarray, labels: np.ndarray, shrinkage: float = 1.0):
    view = Predictions(stack, labels).all()
    fitted = METHODS[name].fit(view, settings=Settings(shrinkage=shrinkage))
    return fitted, METHODS[name].combine(Predictions(stack, None).all(), fitted)


def unequal_members(rows: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Two members, the first of which knows the classes 0 and 1 alone and the second the others; 4 classes."""
    random = np.random.default_rng(3)
    labels = random.integers(0, 4, size=rows)
    scores = random.normal(size=(2, rows, 4))
    for m in range(2):
        known = labels // 2 == m
        scores[m, known, labels[known]] += 3
    return np.exp(log_softmax(scores, axis=2)).astype(np.float32), labels


@every_method
def test_rows_sum_to_one_and_the_bytes_are_the_same_twice(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.0)
    stack[0, :5] = [0, 0, 1, 0, 0]
    _, once = fitted_and_predicted(name, stack, labels)
    assert once.dtype == np.float32
    assert once.sum(axis=1) == pytest.approx(np.ones(len(labels)), abs=1e-6)
    assert once.min() >= 0
    assert once.tobytes() == fitted_and_predicted(name, stack, labels)[1].tobytes()


@every_method
@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 1000))
def test_order_of_members_rows_and_classes_does_not_matter(name: str, seed: int) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4, rows=120, classes=4, seed=seed)
    random = np.random.default_rng(seed)
    order, rows, classes = random.permutation(3), random.permutation(120), random.permutation(4)
    before = fitted_and_predicted(name, stack, labels)[1]
    after = fitted_and_predicted(name, stack[order][:, rows][:, :, classes], np.argsort(classes)[labels[rows]])[1]
    assert after == pytest.approx(before[rows][:, classes], abs=5e-3)


def test_infinite_shrinkage_is_the_common_pool() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.0)
    view = Predictions(stack, labels).all()
    fitted, found = fitted_and_predicted("class_weights", stack, labels, np.inf)
    common = common_weights(view)
    assert fitted.weights == pytest.approx(np.repeat(common[:, None], 5, axis=1))
    assert found == pytest.approx(log_linear(view, Fitted(common)), abs=1e-6)
    nearly = fitted_and_predicted("class_weights", stack, labels, 1e6)[0].weights
    assert nearly == pytest.approx(fitted.weights, abs=1e-3)


def test_infinite_shrinkage_is_the_geometric_mean() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.0)
    geometric = log_linear(Predictions(stack, labels).all(), Fitted(equal_weights(3)))
    assert fitted_and_predicted("logistic", stack, labels, np.inf)[1] == pytest.approx(geometric, abs=1e-6)
    assert fitted_and_predicted("logistic", stack, labels, 1e7)[1] == pytest.approx(geometric, abs=1e-3)


def test_weights_are_positive_sum_to_one_and_know_what_each_member_knows() -> None:
    stack, labels = unequal_members()
    weights = fitted_and_predicted("class_weights", stack, labels)[0].weights
    assert weights.shape == (2, 4)
    assert weights.min() > 0
    assert weights.sum(axis=0) == pytest.approx(np.ones(4))
    assert weights[0, :2].min() > 0.6
    assert weights[1, 2:].min() > 0.6
    assert drop(Fitted(weights), 0).weights == pytest.approx(np.ones((1, 4)))


def test_class_weights_are_the_optimum_that_another_solver_finds() -> None:
    stack, labels = unequal_members(300)
    logarithms = np.log(np.maximum(stack, 1e-6)).astype(np.float64)
    centre = common_weights(Predictions(stack, labels).all())

    def objective(first: np.ndarray) -> float:
        weights = np.stack([first, 1 - first])                                   # two members: (2, C)
        scores = (weights[:, None, :] * logarithms).sum(axis=0)
        loss = -log_softmax(scores, axis=1)[np.arange(300), labels].sum()
        return loss + PSEUDO_ROWS * (centre[:, None] * np.log(centre[:, None] / weights)).sum()

    oracle = minimize(objective, np.full(4, 0.5), bounds=[(1e-6, 1 - 1e-6)] * 4, options={"ftol": 1e-14})
    weights = fitted_and_predicted("class_weights", stack, labels)[0].weights
    assert objective(weights[0]) == pytest.approx(oracle.fun, rel=1e-5)
    assert weights[0] == pytest.approx(oracle.x, abs=0.02)


def test_a_class_with_few_rows_keeps_nearer_to_the_common_weights() -> None:
    stack, labels = unequal_members(3000)
    kept = np.sort(np.concatenate([np.flatnonzero(labels != 0), np.flatnonzero(labels == 0)[:6]]))
    rare = stack[:, kept], labels[kept]
    common = common_weights(Predictions(*rare).all())[0]
    distance = np.abs(fitted_and_predicted("class_weights", *rare)[0].weights[0] - common)
    assert distance[0] < 0.5 * distance[1]


def test_a_perfect_member_takes_over() -> None:
    stack, labels, _ = members(0.5, 0.5, 0.5)
    stack[1] = 0.02 + 0.9 * np.eye(5, dtype=np.float32)[labels]
    weights = fitted_and_predicted("class_weights", stack, labels)[0].weights
    assert (weights[1] > 0.8).all()
    for name in METHODS:
        assert log_loss(fitted_and_predicted(name, stack, labels)[1], labels) <= log_loss(stack[1], labels) + 0.02


@every_method
def test_a_class_without_rows_is_no_problem(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, rows=200)
    labels[labels == 4] = 3
    for shrinkage in (0.0, 1.0):
        found = fitted_and_predicted(name, stack, labels, shrinkage)[1]
        assert np.isfinite(found).all()
        assert log_loss(found, labels) < log_loss(stack[0], labels)


@every_method
@pytest.mark.parametrize("seed", range(3))
def test_shuffled_labels_score_at_chance_when_nested(name: str, seed: int) -> None:
    """Not below log C less four standard errors of a mean over 1600 rows, and not far above: the prior's own excess."""
    stack, labels, folds = members(2.0, 1.5, 1.0, rows=1600, seed=seed)
    shuffled = np.random.default_rng(seed).permutation(labels)
    nested = nested_predictions(METHODS[name], Predictions(stack, shuffled).all(), folds=folds, settings=Settings())
    assert log_loss(nested, shuffled) > np.log(5) - 0.02
    if name == "logistic":                                  # weights that sum to one cannot give up what members say
        assert log_loss(nested, shuffled) < np.log(5) + 0.03


def test_logistic_finds_class_biases_and_scales_that_the_members_got_wrong() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(3000, 4)) * 2
    labels = (log_softmax(scores, axis=1) + random.gumbel(size=scores.shape)).argmax(axis=1)
    truth = np.exp(log_softmax(scores, axis=1))
    wrong = np.exp(log_softmax(0.5 * scores + np.array([1.0, 0, 0, -1.0]), axis=1)).astype(np.float32)
    found = fitted_and_predicted("logistic", np.stack([wrong, wrong]), labels)[1]
    assert log_loss(wrong, labels) > log_loss(truth, labels) + 0.1
    assert log_loss(found, labels) == pytest.approx(log_loss(truth, labels), abs=0.01)


def test_without_shrinkage_logistic_reaches_the_loss_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one member: its matrix is that of an unpenalised multinomial regression on its log-probabilities."""
    monkeypatch.setattr(logistic, "TOLERANCE", 1e-12)
    stack, labels, _ = members(1.5, rows=500)
    inputs = np.log(stack[0]).astype(np.float64)
    rival = LogisticRegression(C=1e8, tol=1e-10, max_iter=10_000).fit(inputs, labels)
    expected = log_loss(rival.predict_proba(inputs), labels)
    found = fitted_and_predicted("logistic", stack, labels, 1e-8)[1]
    assert log_loss(found, labels) == pytest.approx(expected, abs=1e-5)


def test_logistic_reaches_its_penalised_optimum_by_another_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "TOLERANCE", 1e-12)
    stack, labels, _ = members(1.5, 0.5, rows=200, classes=3)
    columns = np.log(stack).transpose(2, 0, 1) + 2                               # (C, m, n)
    own, shared = logistic._fit(columns, np.log(stack).mean(axis=0), labels, 0.1)
    mean = np.hstack([columns.mean(axis=1).T, np.ones((200, 1))])                # (n, C + 1)

    def objective(flat: np.ndarray) -> float:
        common, each, full = flat[:2], flat[2:8].reshape(2, 3), flat[8:].reshape(4, 3)
        scores = np.log(stack).mean(axis=0) + np.einsum("mc,cmn->nc", common[:, None] + each, columns) + mean @ full
        penalty = logistic.COMMON * (common**2).sum() + logistic.RIDGE * ((each**2).sum() + (full**2).sum())
        return float(-log_softmax(scores, axis=1)[np.arange(200), labels].sum() + 0.1 / 2 * penalty)

    oracle = minimize(objective, np.zeros(20), options={"gtol": 1e-5})
    assert own == pytest.approx(oracle.x[:2, None] + oracle.x[2:8].reshape(2, 3), abs=2e-3)
    assert shared == pytest.approx(oracle.x[8:].reshape(4, 3), abs=2e-3)


def test_cross_entropy_and_its_gradient() -> None:
    random = np.random.default_rng(0)
    scores, labels = random.normal(size=(7, 4)), random.integers(0, 4, 7)
    loss, gradient = cross_entropy(scores.copy(), labels)
    assert loss == pytest.approx(-log_softmax(scores, axis=1)[np.arange(7), labels].sum())
    step = np.zeros_like(scores)
    step[3, 2] = 1e-6
    ahead, behind = (cross_entropy(scores + sign * step, labels)[0] for sign in (1, -1))
    assert gradient[3, 2] == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)


@every_method
def test_predictions_do_not_depend_on_the_other_rows(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4)
    fitted = METHODS[name].fit(Predictions(stack, labels).all(), settings=Settings())
    whole = METHODS[name].combine(Predictions(stack, None).all(), fitted)
    part = METHODS[name].combine(Predictions(stack, None).all().at(np.arange(50, 80)), fitted)
    assert part == pytest.approx(whole[50:80], abs=1e-6)
