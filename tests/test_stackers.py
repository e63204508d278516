"""Stackers solve the problem that they say, see nothing but their rows, and give the same bytes each time."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from pipeline.config.stacker import LightgbmConfig, StackerConfig, SvmConfig
from pipeline.errors import UserError
from pipeline.metrics import accuracy, log_loss
from pipeline.stackers.calibrate import fit_sigmoid, fit_temperature, hedged, sigmoids, softmax
from pipeline.stackers.links import LINKS
from pipeline.stackers.projection import fit_projection, spread_scores
from pipeline.stackers.registry import STACKERS, load, module_of

CONFIGS: dict[str, StackerConfig] = {
    "svm": SvmConfig(kind="svm"),
    "svm pca": SvmConfig(kind="svm", pca=20),
    "svm auto": SvmConfig(kind="svm", c="auto"),
    "svm rbf": SvmConfig(kind="svm", kernel="rbf", components=150, c=1.0),
    "svm exact": SvmConfig(kind="svm", kernel="exact_rbf", c=1.0),
    "lightgbm": LightgbmConfig(kind="lightgbm", pca=20, rounds=12, learning_rate=0.3, patience=None),
    "lightgbm stopped": LightgbmConfig(kind="lightgbm", pca=20, rounds=15, learning_rate=0.3, patience=2),
}
EVERY = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    fit_x, x_new, fit_y, y_new = train_test_split(x.astype(np.float32), y, test_size=600, stratify=y, random_state=0)
    return fit_x, fit_y, x_new, y_new


@EVERY
def test_stackers_learn_digits(config: StackerConfig) -> None:
    x, y, x_new, y_new = digits()
    scores = load(config.kind)(x, y, n_classes=10, config=config, seed=0)(x_new)
    assert scores.shape == (600, 10)
    assert scores.dtype == np.float32
    link = LINKS[config.kind]
    probabilities = link.apply(scores, link.fit(scores[:300], y_new[:300]))
    assert accuracy(probabilities, y_new) > 0.9
    assert log_loss(probabilities[300:], y_new[300:]) < 0.4


@EVERY
def test_same_seed_same_bytes_whatever_the_batch(config: StackerConfig) -> None:
    x, y, x_new, _ = digits()
    one, two = (load(config.kind)(x[:400], y[:400], n_classes=10, config=config, seed=3) for _ in range(2))
    assert one(x_new).tobytes() == two(x_new).tobytes()
    np.testing.assert_allclose(one(x_new[:7]), one(x_new)[:7], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["svm", "svm pca", "svm rbf", "lightgbm"])
def test_shuffled_labels_score_at_chance(kind: str) -> None:
    """Images of one digit share their fate: over 40 to 150 shuffles, means 0.095 to 0.099, deviations up to 0.041."""
    config = CONFIGS[kind]
    x, y, x_new, y_new = digits()
    accuracies, losses = [], []
    for seed in range(16):
        shuffled = np.random.default_rng(seed).permutation(y[:400])
        scores = load(config.kind)(x[:400], shuffled, n_classes=10, config=config, seed=seed)(x_new)
        accuracies.append(accuracy(scores, y_new))
        link = LINKS[config.kind]
        losses.append(log_loss(link.apply(scores[300:], link.fit(scores[:300], y_new[:300])), y_new[300:]))
    assert abs(np.mean(accuracies) - 0.1) < 4 * 0.041 / np.sqrt(16)
    assert np.mean(losses) > np.log(10) - 0.02


@EVERY
def test_absent_classes_come_last_and_stay_finite(config: StackerConfig) -> None:
    x, y, x_new, _ = digits()
    kept = (y != 3) & (y != 11)
    scores = load(config.kind)(x[kept], y[kept], n_classes=12, config=config, seed=0)(x_new)
    assert scores.shape == (600, 12)
    assert np.isfinite(scores).all()
    absent, present = scores[:, [3, 10, 11]], np.delete(scores, [3, 10, 11], axis=1)
    np.testing.assert_allclose(absent, present.min(axis=1, keepdims=True).repeat(3, axis=1) - 1, rtol=1e-5)


@EVERY
def test_one_class_alone_is_always_the_answer(config: StackerConfig) -> None:
    x = digits()[0][:50]
    scores = load(config.kind)(x, np.full(50, 2), n_classes=4, config=config, seed=0)(x)
    assert (scores.argmax(axis=1) == 2).all()
    assert np.isfinite(scores).all()


@EVERY
def test_dead_and_constant_features_do_no_harm(config: StackerConfig) -> None:
    x, y, x_new, y_new = digits()
    extra = np.full((len(x), 2), 5.0, np.float32)
    scores = load(config.kind)(np.hstack([x, extra]), y, n_classes=10, config=config, seed=0)(
        np.hstack([x_new, np.full((600, 2), 6.0, np.float32)]))
    assert accuracy(scores, y_new) > 0.9


def test_lightgbm_does_not_diverge_on_classes_of_two_rows() -> None:
    rng = np.random.default_rng(0)
    counts = np.array([600, 400, 200, 100] + [2] * 12)
    centres = rng.normal(size=(16, 10))
    y = np.repeat(np.arange(16), counts)
    x, x_new = ((centres[y] + rng.normal(size=(len(y), 10))).astype(np.float32) for _ in range(2))

    def probabilities(**config: float) -> np.ndarray:
        section = LightgbmConfig(kind="lightgbm", pca=None, rounds=40, patience=None, **config)
        return softmax(load("lightgbm")(x, y, n_classes=16, config=section, seed=0)(x_new), np.ones(1))

    prior = log_loss(np.tile(counts / counts.sum(), (len(y), 1)), y)
    ours, without_floor = probabilities(), probabilities(min_sum_hessian=1e-3)
    assert log_loss(ours, y) < 0.3 * prior
    assert ours[y < 4][:, 4:].max() < 0.05
    assert log_loss(without_floor, y) > 2 * log_loss(ours, y)       # LightGBM's own default
    assert without_floor[y < 4][:, 4:].max() > 0.99


def test_early_stopping_leaves_noise_after_a_few_rounds_and_refits_on_every_row() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 6)).astype(np.float32), rng.integers(0, 3, 400)
    stopping = LightgbmConfig(kind="lightgbm", rounds=60, patience=5, learning_rate=0.3)
    scores = load("lightgbm")(x, y, n_classes=3, config=stopping, seed=0)(x)
    after = [rounds for rounds in range(1, 8) if np.array_equal(scores, load("lightgbm")(
        x, y, n_classes=3, config=stopping.model_copy(update={"rounds": rounds, "patience": None}), seed=0)(x))]
    assert len(after) == 1


def test_projection_is_fitted_on_its_own_rows() -> None:
    x, _, x_new, _ = digits()
    project = fit_projection(x, pca=None)
    varying = x.std(axis=0) > 0
    np.testing.assert_allclose(project(x).mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(project(x)[:, varying].std(axis=0), 1, atol=1e-4)
    np.testing.assert_array_equal(project(x_new[:1]), project(x_new)[:1])
    parts = fit_projection(x, pca=5)(x)
    assert parts.shape == (len(x), 5)
    np.testing.assert_allclose(np.corrcoef(parts.T), np.eye(5), atol=1e-3)
    assert fit_projection(x[:4], pca=50)(x_new).shape == (600, 4)


def test_spread_scores_places_columns() -> None:
    spread = spread_scores(np.array([[1.0, 4.0], [0.0, -2.0]]), np.array([1, 3]), n_classes=4)
    assert spread.tolist() == [[0, 1, 0, 4], [-3, 0, -3, -2]]


@pytest.mark.parametrize("true_temperature", [0.05, 1.0, 7.0])
def test_temperature_is_recovered(true_temperature: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 5)).astype(np.float32) * 2 * true_temperature
    cumulated = softmax(scores, np.array([true_temperature])).cumsum(axis=1)
    labels = (rng.random((20_000, 1)) > cumulated).sum(axis=1).clip(0, 4)
    assert fit_temperature(scores, labels)[0] == pytest.approx(true_temperature, rel=0.05)


def test_temperature_is_where_the_loss_is_least_and_misleading_scores_become_uniform() -> None:
    x, y, x_new, y_new = digits()
    scores = load("svm")(x, y, n_classes=10, config=CONFIGS["svm"], seed=0)(x_new)
    best = fit_temperature(scores, y_new)
    losses = [log_loss(softmax(scores, best * f), y_new) for f in (0.9, 1.0, 1.1)]
    assert losses[1] == min(losses)
    wrong = fit_temperature(-scores, y_new)
    np.testing.assert_allclose(softmax(-scores, wrong), 0.1, atol=1e-3)


def test_sigmoid_is_recovered() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(20_000, 5)).astype(np.float32)
    cumulated = sigmoids(scores, np.array([3.0, -1.0])).cumsum(axis=1)
    labels = (rng.random((20_000, 1)) > cumulated).sum(axis=1).clip(0, 4)
    np.testing.assert_allclose(fit_sigmoid(scores, labels), [3.0, -1.0], rtol=0.1)


def test_sigmoid_calibrates_margins_better_than_a_temperature_and_misleading_ones_become_uniform() -> None:
    """One-vs-rest margins saturate on both sides, which a softmax of them takes for evidence."""
    x, y, x_new, y_new = digits()
    scores = load("svm")(x, y, n_classes=10, config=CONFIGS["svm"], seed=0)(x_new)
    losses = {link: log_loss(apply(scores[300:], fit(scores[:300], y_new[:300])), y_new[300:])
              for link, fit, apply in (("sigmoid", fit_sigmoid, sigmoids), ("temperature", fit_temperature, softmax))}
    assert losses["sigmoid"] < losses["temperature"]
    np.testing.assert_allclose(sigmoids(-scores, fit_sigmoid(-scores, y_new)), 0.1, atol=1e-3)


def test_sigmoid_s_gradient_is_zero_at_the_fit() -> None:
    x, y, x_new, y_new = digits()
    scores = load("svm")(x, y, n_classes=10, config=CONFIGS["svm"], seed=0)(x_new)
    slope, offset = fit_sigmoid(scores, y_new)
    best = log_loss(sigmoids(scores, np.array([slope, offset])), y_new)
    for near in ((slope * 1.05, offset), (slope * 0.95, offset), (slope, offset + 0.1), (slope, offset - 0.1)):
        assert log_loss(sigmoids(scores, np.array(near)), y_new) > best


def test_every_kind_has_a_link() -> None:
    assert set(LINKS) == set(STACKERS)


def test_registry_names_modules_and_refuses_unknown_kinds() -> None:
    assert {kind: module_of(kind) for kind in STACKERS} == {
        "svm": "pipeline.stackers.svm", "lightgbm": "pipeline.stackers.lightgbm_trees"}
    with pytest.raises(UserError) as caught:
        load("svn")
    assert str(caught.value) == "unknown stacker kind 'svn'; allowed: 'svm', 'lightgbm'; did you mean 'svm'?"


def test_hedging_is_one_uniform_row_among_n():
    sure = np.array([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    hedge = hedged(sure, 99)
    np.testing.assert_allclose(hedge, [[0.9925, 0.0025, 0.0025, 0.0025], [0.25, 0.25, 0.25, 0.25]])
    assert -np.log(hedge.min()) == pytest.approx(np.log(100 * 4))
