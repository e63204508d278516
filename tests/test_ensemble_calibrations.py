"""Calibrations: what they recover, what they leave alone, and what they never worsen in sample."""

import numpy as np
import pytest
from ensemble_cases import members
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from pipeline.ensemble import calibrations
from pipeline.ensemble.blend import fit_blend, refit_blend
from pipeline.ensemble.calibrations import CALIBRATIONS, calibrated
from pipeline.ensemble.contract import Method, Predictions, Settings, drop
from pipeline.ensemble.means import fit_equal, linear, log_linear
from pipeline.ensemble.nested import nested_predictions
from pipeline.metrics import log_loss

BLEND = Method("blend", fit_blend, linear, 8, linear=True, refit=refit_blend)
GEOMETRIC = Method("geometric", fit_equal, log_linear, 1, learns=False)
every_calibration = pytest.mark.parametrize("name", CALIBRATIONS)


def honest(rows: int = 4000, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of probabilities `(N, C)` and labels that were drawn from them."""
    random = np.random.default_rng(seed)
    scores = log_softmax(2 * random.normal(size=(rows, classes)), axis=1)
    return scores, (scores + random.gumbel(size=scores.shape)).argmax(axis=1)


def distribution(scores: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(scores, axis=1)).astype(np.float32)


def recalibrated(name: str, probabilities: np.ndarray, labels: np.ndarray, **options: float) -> np.ndarray:
    calibration = CALIBRATIONS[name]
    return calibration.apply(probabilities, calibration.fit(probabilities, labels, **options))


@every_calibration
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), sharpness=st.floats(0.1, 5))
def test_the_loss_in_sample_never_rises(name: str, seed: int, sharpness: float) -> None:
    stack, labels, _ = members(1.0, rows=60, seed=seed)
    before = distribution(sharpness * np.log(stack[0]))
    after = recalibrated(name, before, labels)
    assert log_loss(after, labels) <= log_loss(before, labels) + 1e-6
    assert after.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-6)


@every_calibration
def test_honest_predictions_are_left_alone(name: str) -> None:
    """Within 0.1 of 1/T and a mean absolute change of 0.01, both several times what 4000 rows leave open."""
    scores, labels = honest()
    parameters = CALIBRATIONS[name].fit(distribution(scores), labels)
    after = CALIBRATIONS[name].apply(distribution(scores), parameters)
    assert parameters[0] == pytest.approx(1, abs=0.1)
    assert np.abs(after - distribution(scores)).mean() < 0.01


@pytest.mark.parametrize("name", ["temperature", "vector"])
@pytest.mark.parametrize("sharpness", [0.3, 1.0, 3.0])
def test_the_scale_is_recovered(name: str, sharpness: float) -> None:
    scores, labels = honest()
    parameters = CALIBRATIONS[name].fit(distribution(sharpness * scores), labels)
    assert parameters[0] == pytest.approx(1 / sharpness, rel=0.06)


def test_the_temperature_is_the_best_by_bounded_search() -> None:
    stack, labels, _ = members(1.0)
    logarithms = np.log(stack[0].astype(np.float64))
    found = CALIBRATIONS["temperature"].fit(stack[0], labels)
    oracle = minimize_scalar(
        lambda inverse: -log_softmax(inverse * logarithms, axis=1)[np.arange(400), labels].mean(), bounds=(0, 100),
        method="bounded", options={"xatol": 1e-8},
    )
    assert found == pytest.approx([oracle.x], rel=1e-3)


def test_intercepts_are_recovered_and_shrunk_where_rows_are_few() -> None:
    scores, labels = honest(20_000)
    shift = np.array([1.0, 0.5, 0.0, -0.5, -1.0])
    found = CALIBRATIONS["vector"].fit(distribution(scores + shift), labels)[1:]
    assert found == pytest.approx(-shift, abs=0.1)
    few = CALIBRATIONS["vector"].fit(distribution(scores + shift)[:30], labels[:30])[1:]
    assert np.abs(few).max() < 0.5


def test_the_vector_is_the_penalised_optimum_by_another_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrations, "TOLERANCE", 1e-12)
    stack, labels, _ = members(1.0, rows=150, classes=3)
    logarithms = np.log(stack[0].astype(np.float64))

    def objective(flat: np.ndarray) -> float:
        loss = -log_softmax(flat[0] * logarithms + flat[1:], axis=1)[np.arange(150), labels].sum()
        return float(loss + 0.5 * calibrations.VECTOR_RIDGE / 2 * (flat[1:] ** 2).sum())

    oracle = minimize(objective, np.array([1.0, 0, 0, 0]), options={"gtol": 1e-6})
    assert CALIBRATIONS["vector"].fit(stack[0], labels, shrinkage=0.5) == pytest.approx(oracle.x, abs=1e-3)


def test_the_matrix_undoes_a_confusion_that_no_intercept_can() -> None:
    """Classes 0 and 1 have lent each other four fifths of their mass: 4000 rows suffice to give it back."""
    scores, labels = honest()
    mixed = distribution(scores) @ np.array(
        [[0.2, 0.8, 0, 0, 0], [0.8, 0.2, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]], dtype=np.float32)
    best, vector = log_loss(distribution(scores), labels), log_loss(recalibrated("vector", mixed, labels), labels)
    matrix = log_loss(recalibrated("dirichlet", mixed, labels), labels)
    assert matrix - best < 0.3 * (vector - best)


@pytest.mark.parametrize("name", ["vector", "dirichlet"])
def test_infinite_shrinkage_leaves_the_temperature(name: str) -> None:
    stack, labels, _ = members(1.0)
    temperature = recalibrated("temperature", stack[0], labels)
    assert recalibrated(name, stack[0], labels, shrinkage=np.inf) == pytest.approx(temperature, abs=1e-6)
    assert recalibrated(name, stack[0], labels, shrinkage=1e6) == pytest.approx(temperature, abs=2e-3)


@every_calibration
def test_order_of_rows_and_classes_does_not_matter(name: str) -> None:
    stack, labels, _ = members(1.0)
    random = np.random.default_rng(0)
    rows, classes = random.permutation(400), random.permutation(5)
    after = recalibrated(name, stack[0][rows][:, classes], np.argsort(classes)[labels[rows]])
    assert after == pytest.approx(recalibrated(name, stack[0], labels)[rows][:, classes], abs=2e-3)


@every_calibration
def test_zeros_and_classes_without_rows_stay_finite(name: str) -> None:
    stack, labels, _ = members(1.0)
    stack[0, :5] = [0, 0, 1, 0, 0]
    labels[labels == 4] = 3
    for shrinkage in (0.0, 1.0):
        after = recalibrated(name, stack[0], labels, shrinkage=shrinkage)
        assert np.isfinite(after).all()
        assert after.sum(axis=1) == pytest.approx(np.ones(400), abs=1e-6)


@pytest.mark.parametrize("name", ["temperature", "vector"])
def test_predictions_that_mislead_become_nearly_the_prior(name: str) -> None:
    scores, labels = honest()
    assert log_loss(recalibrated(name, distribution(-scores), labels), labels) == pytest.approx(np.log(5), abs=0.01)
    assert CALIBRATIONS[name].fit(distribution(-scores), labels)[0] == pytest.approx(0, abs=1e-3)


@every_calibration
def test_a_calibrated_method_calibrates_the_predictions_of_its_own_rows(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4)
    view, method = Predictions(stack, labels).all(), calibrated(BLEND, name)
    fitted = method.fit(view, settings=Settings())
    inner = BLEND.fit(view, settings=Settings())
    blended = linear(view, inner)
    expected = CALIBRATIONS[name].apply(blended, CALIBRATIONS[name].fit(blended, labels))
    assert method.name == f"blend+{name}"
    assert BLEND.simplicity < method.simplicity < BLEND.simplicity + 1
    assert fitted.weights.tobytes() == inner.weights.tobytes()
    assert method.combine(Predictions(stack, None).all(), fitted).tobytes() == expected.tobytes()


@every_calibration
def test_a_member_is_dropped_and_the_calibration_stays(name: str) -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4)
    view, method = Predictions(stack, labels).all(), calibrated(GEOMETRIC, name)
    fitted = method.fit(view, settings=Settings())
    rest = log_linear(view.without(1), drop(GEOMETRIC.fit(view, settings=Settings()), 1))
    expected = CALIBRATIONS[name].apply(rest, fitted.model[1])
    assert method.combine(view.without(1), drop(fitted, 1)).tobytes() == expected.tobytes()


def test_a_refit_is_a_fit_without_the_member() -> None:
    stack, labels, _ = members(1.5, 1.0, 0.4)
    view, method = Predictions(stack, labels).all(), calibrated(BLEND, "vector")
    again = method.refit(view, method.fit(view, settings=Settings()), 0, settings=Settings())
    alone = method.fit(view.without(0), settings=Settings())
    assert again.weights == pytest.approx(alone.weights, abs=1e-3)
    assert again.model[1] == pytest.approx(alone.model[1], abs=1e-2)
    assert calibrated(GEOMETRIC, "vector").refit is None


@every_calibration
def test_shuffled_labels_score_at_chance_when_nested(name: str) -> None:
    """Within four standard errors below log C, and 0.03 above: what a few parameters cost on 1500 rows."""
    stack, labels, folds = members(2.0, 1.5, 1.0, rows=2000)
    shuffled = np.random.default_rng(1).permutation(labels)
    nested = nested_predictions(
        calibrated(BLEND, name), Predictions(stack, shuffled).all(), folds=folds, settings=Settings())
    assert log_loss(nested, shuffled) == pytest.approx(np.log(5) + 0.005, abs=0.025)
