"""Test-time views of five crops and their mirror images, against OpenCV's own enlargement of a slice."""

import cv2
import numpy as np
import pytest

from pipeline.augment.views import view_matrices
from pipeline.augment.warp import warp_batch
from pipeline.config.model import AugmentConfig, TtaConfig


def crops(canvas: int, crop: float) -> np.ndarray:
    return view_matrices(TtaConfig(kind="crops", crop=crop), augment=AugmentConfig(), canvas=canvas)


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_the_five_crops_enlarged_and_then_their_mirror_images(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, channels), dtype=np.uint8)
    views = warp_batch([image] * 10, crops(32, 0.75), canvas=32)              # crops of 24 px
    for view, (top, left) in enumerate([(4, 4), (0, 0), (0, 8), (8, 0), (8, 8)]):
        enlarged = cv2.resize(image[top:top + 24, left:left + 24], (32, 32), interpolation=cv2.INTER_LINEAR)
        inside = np.s_[2:-2, 2:-2]                                            # resize repeats the edge, a view goes on
        difference = views[view].astype(int) - enlarged.reshape(32, 32, channels)
        assert np.abs(difference[inside]).max() <= 3                          # fixed-point weights differ
        np.testing.assert_allclose(views[5 + view].astype(int), views[view][:, ::-1], atol=3)


@pytest.mark.parametrize(("canvas", "crop"), [(32, 0.875), (33, 0.5), (95, 0.9)])
def test_crops_are_blown_up_to_exactly_the_canvas(canvas: int, crop: float) -> None:
    matrices, side, low, high = crops(canvas, crop), crop * canvas, -0.5, canvas - 0.5   # outer edges
    middle = (canvas - side) / 2 - 0.5
    origins = [(middle, middle), (low, low), (high - side, low), (low, high - side), (high - side, high - side)]
    for view, (x, y) in enumerate(origins):
        corners = np.array([[x, y, 1], [x + side, y + side, 1]])
        np.testing.assert_allclose((corners @ matrices[view].T)[:, :2], [[low, low], [high, high]], atol=1e-9)
        np.testing.assert_allclose((corners @ matrices[5 + view].T)[:, :2], [[high, low], [low, high]], atol=1e-9)
    assert matrices.shape == (10, 3, 3)
    assert len({matrix.tobytes() for matrix in matrices}) == 10


def test_no_crop_is_the_identity() -> None:
    assert not any(np.allclose(matrix, np.eye(3)) for matrix in crops(64, 0.875))
