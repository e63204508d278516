"""Whitening: laws of both kinds, scikit-learn's PCA as an oracle, and the module that applies it."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from pipeline.errors import UserError
from pipeline.nets.whiten import Whiten, fit_whitening, require_whitenable

KINDS = ("pca", "zca")
CHANNELS, CANVAS = 2, 5
D = CHANNELS * CANVAS**2


def pictures(n: int = 1500, *, seed: int = 0) -> torch.Tensor:
    """Correlated pixels with an offset, channels_last as batches are, `(n, 2, 5, 5)`."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(D, D, generator=torch.Generator().manual_seed(9)) / D**0.5
    flat = torch.randn(n, D, generator=generator) @ mixing + 0.7
    return flat.view(n, CANVAS, CANVAS, CHANNELS).permute(0, 3, 1, 2)


def flat(images: torch.Tensor) -> np.ndarray:
    """`(n, C, S, S)` to `(n, S S C)` float64."""
    return images.permute(0, 2, 3, 1).reshape(len(images), -1).double().numpy()


def fitted(images: torch.Tensor, kind: str, **options: float) -> Whiten:
    module = Whiten(images.shape[1], images.shape[2])
    mean, matrix = fit_whitening(images, kind, **options)
    module.load_state_dict({"mean": mean, "matrix": matrix})
    return module


@pytest.mark.parametrize("kind", KINDS)
def test_output_has_no_correlations_on_the_fitted_images(kind: str) -> None:
    images = pictures()
    out = flat(fitted(images, kind, epsilon=0.0)(images))
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(out.T, bias=True), np.eye(D), atol=2e-3)


def test_epsilon_damps_by_the_stated_law() -> None:
    images = pictures()
    variances = np.linalg.eigvalsh(np.cov(flat(images).T, bias=True))[::-1]
    out = flat(fitted(images, "pca", epsilon=0.5)(images))
    damped = variances / (variances + 0.5 * variances.mean())
    np.testing.assert_allclose(np.cov(out.T, bias=True), np.diag(damped), atol=1e-4)


def test_pca_is_scikit_learns() -> None:
    images = pictures()
    theirs = PCA(whiten=True).fit(flat(images))
    ours = flat(fitted(images, "pca", epsilon=0.0)(images))
    expected = theirs.transform(flat(images)) * np.sqrt(len(images) / (len(images) - 1))     # theirs: over n - 1
    signs = np.sign((ours * expected).sum(axis=0))
    np.testing.assert_allclose(ours, expected * signs, atol=5e-3)


def test_pca_signs_are_settled() -> None:
    matrix = fit_whitening(pictures(), "pca")[1]
    largest = matrix.gather(1, matrix.abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()


def test_zca_is_the_symmetric_root() -> None:
    images = pictures()
    matrix = fit_whitening(images, "zca", epsilon=0.0)[1].double().numpy()
    covariance = np.cov(flat(images).T, bias=True)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-4)
    assert np.linalg.eigvalsh(matrix).min() > 0
    np.testing.assert_allclose(matrix @ covariance @ matrix, np.eye(D), atol=2e-3)


def test_zca_changes_images_least() -> None:
    images = pictures()
    centred = flat(images) - flat(images).mean(axis=0)
    zca, pca = (flat(fitted(images, kind, epsilon=0.0)(images)) for kind in ("zca", "pca"))
    turned = zca @ np.linalg.qr(np.eye(D) + 0.1 * np.random.default_rng(0).standard_normal((D, D)))[0]
    distances = [np.square(out - centred).mean() for out in (zca, turned, pca)]
    assert distances[0] < min(distances[1:])


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_images_than_dimensions_stay_finite(kind: str) -> None:
    images = pictures(7)
    module = fitted(images, kind)
    assert torch.isfinite(module.matrix).all()
    unseen = flat(module(pictures(500, seed=1)))
    ridge = 0.01 * np.cov(flat(images).T, bias=True).trace() / D
    assert np.linalg.norm(module.matrix.numpy(), 2) == pytest.approx(ridge**-0.5, rel=1e-3)
    assert np.isfinite(unseen).all()


@pytest.mark.parametrize("kind", KINDS)
def test_blank_images_stay_blank(kind: str) -> None:
    images = torch.full((20, 1, 4, 4), 0.3)
    assert (fitted(images, kind)(images) == 0).all()


def test_rows_are_taken_in_any_number_of_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(300)
    whole = fit_whitening(images, "zca")
    monkeypatch.setattr("pipeline.nets.whiten.ROWS", 64)
    for one, other in zip(whole, fit_whitening(images, "zca"), strict=True):
        torch.testing.assert_close(one, other)


def test_an_unfilled_module_is_the_identity_with_the_final_shapes() -> None:
    module, images = Whiten(CHANNELS, CANVAS), pictures(3)
    assert {key: tuple(value.shape) for key, value in module.state_dict().items()} == {"mean": (D,), "matrix": (D, D)}
    assert list(module.parameters()) == []
    torch.testing.assert_close(module(images), images)


@pytest.mark.parametrize("channels", [1, 2, 3, 6])
def test_channels_last_is_kept(channels: int) -> None:
    images = torch.rand(3, 4, 4, channels).permute(0, 3, 1, 2)
    assert Whiten(channels, 4)(images).stride() == images.stride()


def test_memory_format_of_the_input_does_not_matter() -> None:
    images = pictures(50)
    module = fitted(images, "zca")
    torch.testing.assert_close(module(images.contiguous()), module(images))


def test_autocast_does_not_reach_the_product() -> None:
    images = pictures(50)
    module = fitted(images, "zca")
    with torch.autocast("cpu", torch.bfloat16):
        out = module(images)
    assert out.dtype == torch.float32
    assert torch.equal(out, module(images))


def test_runs_without_memory() -> None:
    with torch.device("meta"):
        assert Whiten(3, 32)(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize(("channels", "canvas"), [(1, 64), (3, 36), (6, 26)])
def test_largest_images_that_can_be_whitened(channels: int, canvas: int) -> None:
    require_whitenable(channels, canvas)
    with pytest.raises(UserError, match=f"canvas {canvas + 1} .* over 4096; fix: canvas: {canvas} or less"):
        require_whitenable(channels, canvas + 1)
    with torch.device("meta"), pytest.raises(UserError):
        Whiten(channels, canvas + 1)
