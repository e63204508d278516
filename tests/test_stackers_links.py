"""Links find the parameters that made the labels, at a point where their loss is least."""

import numpy as np
import pytest
from scipy.special import log_softmax

from pipeline.metrics import log_loss
from pipeline.stackers.calibrate import fit_sigmoid, sigmoids
from pipeline.stackers.links import SHRINKAGE, biased, fit_biases, fit_margins, margins

BIASES = np.array([0.8, -0.5, 0.3, 0.0, -0.6])


def drawn(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A label of each row of `probabilities`."""
    return (rng.random((len(probabilities), 1)) > probabilities.cumsum(axis=1)).sum(axis=1).clip(0, 4)


def test_slope_and_biases_are_recovered() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40_000, 5)).astype(np.float32)
    found = fit_biases(scores, drawn(biased(scores, np.array([2.0, *BIASES])), rng))
    np.testing.assert_allclose(found, [2.0, *BIASES], atol=0.06)


def test_biases_are_where_the_penalised_loss_is_flat() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(60, 5)).astype(np.float32)
    labels = rng.integers(0, 3, 60)                                          # two classes have no row
    found = fit_biases(scores, labels)

    def loss(parameters: np.ndarray) -> float:
        z = log_softmax(parameters[0] * scores.astype(np.float64) + parameters[1:], axis=1)
        return float(SHRINKAGE / 2 * (parameters[1:] ** 2).sum() - z[np.arange(60), labels].sum())

    slopes = [(loss(found + step) - loss(found - step)) / 2e-4 for step in 1e-4 * np.eye(6)]
    free = slopes if found[0] > 0 else slopes[1:]
    np.testing.assert_allclose(free, 0, atol=0.1)
    assert found[4] < 0
    assert found[5] < 0


def test_misleading_scores_leave_the_class_shares() -> None:
    rng = np.random.default_rng(2)
    labels = rng.choice(5, size=5000, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    scores = rng.normal(size=(5000, 5)).astype(np.float32)
    scores[np.arange(5000), labels] -= 3
    np.testing.assert_allclose(biased(scores, fit_biases(scores, labels)).mean(axis=0), np.bincount(labels) / 5000,
                               atol=0.01)


def test_margins_extend_the_sigmoid_and_are_fitted_no_worse() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(20_000, 5)).astype(np.float32)
    np.testing.assert_allclose(margins(scores, np.array([3.0, -1.0, 1.0, *np.zeros(5)])),
                               sigmoids(scores, np.array([3.0, -1.0])), rtol=1e-5)
    labels = drawn(margins(scores, np.array([3.0, -1.0, 1.5, *BIASES])), rng)
    best = log_loss(margins(scores, np.array([3.0, -1.0, 1.5, *BIASES])), labels)
    assert log_loss(margins(scores, fit_margins(scores, labels)), labels) == pytest.approx(best, abs=2e-3)
    assert log_loss(sigmoids(scores, fit_sigmoid(scores, labels)), labels) > best + 0.05


def test_one_class_alone_has_probability_one() -> None:
    scores = np.array([[1.0], [-2.0]], np.float32)
    assert margins(scores, fit_margins(scores, np.zeros(2, int))).tolist() == [[1.0], [1.0]]
