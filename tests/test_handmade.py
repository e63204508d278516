"""Hand-made features: values by hand, symmetries, and images that have nothing to measure."""

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.data.handmade import handmade_features, handmade_names
from pipeline.data.store import Packed

KINDS = ("dimensions", "moments", "haralick")


def packed(*images: np.ndarray) -> Packed:
    """A store of these images, `(H, W)` or `(H, W, C)` uint8."""
    solid = [image.reshape(*image.shape[:2], -1) for image in images]
    ends = np.cumsum([image.size for image in solid])
    table = pd.DataFrame({
        "height": [image.shape[0] for image in solid], "width": [image.shape[1] for image in solid],
        "offset": ends - [image.size for image in solid], "split": ["train"] * len(solid),
    })
    return Packed(np.concatenate([image.ravel() for image in solid]), table, ["a"], solid[0].shape[2], "digest")


def features(image: np.ndarray, kind: str) -> dict[str, float]:
    values = handmade_features(packed(image), [kind])[0]
    return {name.removeprefix(f"{kind}."): value for name, value in zip(handmade_names([kind]), values, strict=True)}


def blob(height: int = 40, width: int = 60) -> np.ndarray:
    """A dark field with a smooth bright shape that has no symmetry."""
    noise = np.random.default_rng(3).integers(0, 256, (5, 7)).astype(np.float32)
    y, x = np.mgrid[:height, :width]
    window = np.exp(-((y - 0.45 * height) / (0.2 * height)) ** 2 - ((x - 0.55 * width) / (0.2 * width)) ** 2)
    return (cv2.resize(noise, (width, height)) * window).astype(np.uint8)


# --- values --------------------------------------------------------------------------------------------------------


def test_dimensions_by_hand() -> None:
    found = features(np.zeros((20, 50), np.uint8), "dimensions")
    assert list(found) == ["log_height", "log_width", "log_area", "aspect"]
    np.testing.assert_allclose(list(found.values()), [np.log(20), np.log(50), np.log(1000), 0.4], rtol=1e-6)


def test_moments_of_a_bright_rectangle_by_hand() -> None:
    image = np.zeros((30, 30), np.uint8)
    image[5:9, 10:20] = 255                                           # 4 rows, 10 columns of mass 1
    found = features(image, "moments")
    nu20, nu02 = (10**2 - 1) / 12 / 40, (4**2 - 1) / 12 / 40          # discrete uniform variances over the mass
    hu = [nu20 + nu02, (nu20 - nu02) ** 2]
    for name, value in zip(["nu20", "nu02", "nu11", "hu1", "hu2"], [nu20, nu02, 0, *hu], strict=True):
        assert found[name] == pytest.approx(np.arcsinh(1000 * value), abs=1e-5)
    assert all(abs(found[name]) < 1e-6 for name in ("nu30", "nu21", "nu12", "nu03", "hu3", "hu4", "hu5", "hu6", "hu7"))
    share = 40 / 900
    np.testing.assert_allclose([found[name] for name in ("mean", "std", "filled")],
                               [share, np.sqrt(share * (1 - share)), share], rtol=1e-6)


def test_two_columns_are_an_image_and_not_a_list_of_points() -> None:
    found = features(np.array([[255, 255], [255, 255], [255, 255]], np.uint8), "moments")
    assert found["nu20"] == pytest.approx(np.arcsinh(1000 * (2**2 - 1) / 12 / 6), rel=1e-6)
    assert found["nu02"] == pytest.approx(np.arcsinh(1000 * (3**2 - 1) / 12 / 6), rel=1e-6)


def test_textures_of_a_chessboard_by_hand() -> None:
    board = (np.indices((3, 3)).sum(axis=0) % 2 * 8).astype(np.uint8)           # levels 0 and 1 of 32
    found = features(board, "haralick")
    # 1 px apart: 12 pairs along rows and columns, all unlike; 8 diagonal ones, alike: 4 of level 0, 4 of level 1.
    p00, p11, p01 = 4 / 20, 4 / 20, 6 / 20                                      # p01 = p10
    assert found["contrast_1"] == pytest.approx(12 / 20)
    assert found["dissimilarity_1"] == pytest.approx(12 / 20)
    assert found["homogeneity_1"] == pytest.approx(8 / 20 + 12 / 20 / 2)
    assert found["asm_1"] == pytest.approx(p00**2 + p11**2 + 2 * p01**2)
    assert found["correlation_1"] == pytest.approx((p11 - 0.25) / 0.25)         # both means 1/2, variances 1/4
    assert found["entropy_1"] == pytest.approx(-2 * p00 * np.log(p00) - 2 * p01 * np.log(p01))
    # 2 px along rows and columns: 6 pairs, alike: 4 of level 0, 2 of level 1; the diagonals as above.
    assert found["contrast_2"] == 0
    assert found["asm_2"] == pytest.approx((8 / 14) ** 2 + (6 / 14) ** 2)


def test_colour_is_averaged() -> None:
    colour = np.random.default_rng(0).integers(0, 86, (9, 11, 1), dtype=np.uint8) * np.array([0, 1, 2], np.uint8)
    grey = colour[:, :, 1:2]
    np.testing.assert_allclose(handmade_features(packed(colour), KINDS), handmade_features(packed(grey), KINDS),
                               rtol=1e-5, atol=1e-5)


# --- symmetries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("move", [np.rot90, np.fliplr, np.transpose, lambda x: np.rot90(x, 2)])
def test_turned_and_mirrored_images_have_the_same_texture(move: object) -> None:
    image = blob()
    assert features(np.ascontiguousarray(move(image)), "haralick") == features(image, "haralick")


def test_hu_moments_do_not_see_turns_shifts_or_scale() -> None:
    image = blob()
    hu = [f"hu{i}" for i in range(1, 8)]
    original = features(image, "moments")
    turned = features(np.ascontiguousarray(np.rot90(image)), "moments")
    shifted = features(np.pad(image, ((7, 1), (2, 9))), "moments")
    scaled = features(image.repeat(3, axis=0).repeat(3, axis=1), "moments")
    for name in hu:
        assert turned[name] == pytest.approx(original[name], abs=1e-4)
        assert shifted[name] == pytest.approx(original[name], abs=1e-4)
        assert scaled[name] == pytest.approx(original[name], abs=0.05)          # a pixel is a square, not a point
    mirrored = features(np.ascontiguousarray(np.fliplr(image)), "moments")
    assert mirrored["hu7"] == pytest.approx(-original["hu7"], abs=1e-4)
    assert abs(original["hu7"]) > 1e-3


# --- the table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_has_finite_features(channels: int) -> None:
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (1, 2), (2, 1), (1, 500), (300, 1), (7, 7), (1500, 1200)]
    images = [np.full((*shape, channels), value, np.uint8) for shape in shapes for value in (0, 1, 255)]
    images += [rng.integers(0, 256, (*shape, channels), dtype=np.uint8) for shape in shapes]
    far = np.zeros((1, 4000, channels), np.uint8)
    far[0, [0, 3]] = far[0, -1] = 1                                             # a very thin mass, very spread out
    found = handmade_features(packed(*images, far), KINDS)
    assert found.shape == (29, 4 + 17 + 12)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_an_image_without_pairs_has_the_texture_of_a_constant_one() -> None:
    assert features(np.full((1, 1), 200, np.uint8), "haralick") == features(np.full((9, 9), 200, np.uint8), "haralick")


def test_rows_and_columns_are_in_the_order_that_is_asked_for() -> None:
    images = [blob(), blob(30, 20), np.zeros((4, 4), np.uint8)]
    whole = handmade_features(packed(*images), KINDS)
    names = handmade_names(KINDS)
    np.testing.assert_array_equal(whole[1:2], handmade_features(packed(images[1]), KINDS))
    for kind in KINDS:
        columns = [i for i, name in enumerate(names) if name.startswith(f"{kind}.")]
        np.testing.assert_array_equal(whole[:, columns], handmade_features(packed(*images), [kind]))
    np.testing.assert_array_equal(whole, handmade_features(packed(*images), KINDS))
    assert handmade_names(["haralick", "dimensions"])[-1] == "dimensions.aspect"
    assert len(set(names)) == len(names) == whole.shape[1]
    assert handmade_features(packed(*images), []).shape == (3, 0)
