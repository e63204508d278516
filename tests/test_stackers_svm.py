"""The SVM's solver against liblinear, its kernels against exact solutions, and the inner rows that choose c."""

import numpy as np
import pytest
from scipy.optimize import nnls
from scipy.spatial.distance import pdist
from sklearn.datasets import load_digits
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import LinearSVC

from pipeline.config.stacker import SvmConfig
from pipeline.errors import UserError
from pipeline.stackers import kernels, svm
from pipeline.stackers.inner import watched_rows
from pipeline.stackers.kernels import JITTER, fit_exact, fit_nystroem, median_gamma
from pipeline.stackers.projection import fit_projection
from pipeline.stackers.squared_hinge import fit_squared_hinge


def digits(rows: int = 1197) -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    return fit_projection(x[:rows], pca=None)(x[:rows]), y[:rows]


def objective(weights: np.ndarray, x: np.ndarray, y: np.ndarray, c: float) -> float:
    """The one-vs-rest squared hinge objective, summed over classes, in float64; bias last and penalised."""
    margins = (x.astype(np.float64) @ weights[:-1] + weights[-1]) * np.where(y[:, None] == np.arange(10), 1, -1)
    return float(0.5 * (weights.astype(np.float64) ** 2).sum() + c * (np.maximum(0, 1 - margins) ** 2).sum())


@pytest.mark.parametrize(("c", "scale"), [(0.001, 1.0), (0.2, 1.0), (1.0, 1.0), (0.01, 5.0)])
def test_the_solver_reaches_liblinear_s_optimum_whatever_the_scales(c: float, scale: float) -> None:
    x, y = digits()
    x = x * np.geomspace(1, scale, x.shape[1], dtype=np.float32)
    oracle = LinearSVC(C=c, dual=False, tol=1e-8, max_iter=20_000).fit(x, y)
    best = objective(np.vstack([oracle.coef_.T, oracle.intercept_]), x, y, c)
    assert objective(fit_squared_hinge(x, y, c=c), x, y, c) == pytest.approx(best, rel=1e-4)


def test_the_exact_kernel_is_the_kernel_between_fitted_rows_and_any_others() -> None:
    x, _ = digits(80)
    mapped = fit_exact(x[:60], gamma=0.01)
    np.testing.assert_allclose(mapped(x[:60]) @ mapped(x).T, rbf_kernel(x[:60], x, gamma=0.01), atol=1e-4)


def test_the_exact_machine_solves_the_dual_of_its_kernel() -> None:
    """Squared hinge in the dual: min |L' a y|^2 / 2 + |a|^2 / 4c - sum a over a >= 0, a least-squares problem."""
    x, y = digits(120)
    c, gamma = 0.5, 0.01
    signs = np.where(y == 3, 1.0, -1.0)
    gram = rbf_kernel(x.astype(np.float64), gamma=gamma) + JITTER * np.eye(120) + 1               # 1: the bias
    lower = np.linalg.cholesky(gram * signs[:, None] * signs + np.eye(120) / (2 * c))
    alphas, _ = nnls(lower.T, np.linalg.solve(lower, np.ones(120)), maxiter=10_000)
    mapped = fit_exact(x, gamma=gamma)(x)
    weights = fit_squared_hinge(mapped, (y == 3).astype(int), c=c)
    expected = (gram - JITTER * np.eye(120)) @ (alphas * signs)
    np.testing.assert_allclose(mapped @ weights[:-1, 1] + weights[-1, 1], expected, atol=5e-3)


def test_landmarks_at_every_row_give_the_exact_kernel() -> None:
    x, _ = digits(60)
    mapped = fit_nystroem(x, gamma=0.01, components=500, seed=0)(x)
    np.testing.assert_allclose(mapped @ mapped.T, rbf_kernel(x, gamma=0.01), atol=1e-4)


def test_the_exact_kernel_refuses_more_rows_than_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "EXACT_ROWS", 50)
    x, y = digits(51)
    with pytest.raises(UserError) as caught:
        svm.fit(x, y, n_classes=10, config=SvmConfig(kind="svm", kernel="exact_rbf"), seed=0)
    assert str(caught.value) == ("stackers: kernel exact_rbf takes at most 50 rows, and a fold has 51; "
                                 "fix: kernel: rbf, its approximation by `components` landmarks")


def test_gamma_is_one_over_the_median_squared_distance() -> None:
    x, _ = digits(200)
    assert median_gamma(x, seed=0) == pytest.approx(1 / np.median(pdist(x.astype(np.float64), "sqeuclidean")), rel=1e-6)
    assert median_gamma(np.ones((5, 3), np.float32), seed=0) == 1.0
    assert median_gamma(x[:1], seed=0) == 1.0


@pytest.mark.parametrize(("share", "counts"), [(0.25, (8, 40, 4)), (0.2, (10, 5, 100))])
def test_every_class_gives_its_share_of_watched_rows(share: float, counts: tuple[int, ...]) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    for seed in range(5):
        watched = watched_rows(targets, share=share, seed=seed)
        assert np.bincount(targets[watched], minlength=len(counts)).tolist() == [share * m for m in counts]


def test_rare_classes_give_their_share_in_the_mean_and_never_their_last_row() -> None:
    targets = np.array([0] + [1] * 2)
    drawn = np.array([watched_rows(targets, share=0.25, seed=seed) for seed in range(2000)])
    assert not drawn[:, 0].any()
    assert (drawn[:, 1:].sum(axis=1) <= 1).all()
    assert drawn[:, 1:].sum(axis=1).mean() == pytest.approx(0.5, abs=0.05)


def test_c_auto_takes_the_c_whose_machine_predicts_watched_rows_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in most features and labels: the strongest penalty is right; it is the one that auto finds."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 300)
    x = rng.normal(size=(300, 100)).astype(np.float32)
    x[:, 0] += 1.5 * y
    monkeypatch.setitem(svm.GRID, "linear", (10.0, 1e-3, 1.0))
    chosen, fixed = (svm.fit(x, y, n_classes=2, config=SvmConfig(kind="svm", c=c), seed=0)(x) for c in ("auto", 1e-3))
    np.testing.assert_array_equal(chosen, fixed)
    other = svm.fit(x, y, n_classes=2, config=SvmConfig(kind="svm", c=10.0), seed=0)(x)
    assert not np.array_equal(chosen, other)
