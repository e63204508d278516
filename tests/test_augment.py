"""Augmentation: matrices against explicit products, warps against numpy, views, and the albumentations transform."""

import subprocess
import sys

import albumentations as A
import cv2
import numpy as np
import pytest

from pipeline.augment.affine import AXES, affine_matrices, draw_matrices, fit_matrices, matrices_from_units
from pipeline.augment.transform import ComposedAffine
from pipeline.augment.views import narrowed, view_matrices
from pipeline.augment.warp import warp_batch
from pipeline.config.model import AugmentConfig, TtaConfig

DEEPSEA = AugmentConfig(rotation=180, translation=0.1, zoom=1.6, shear=20, stretch=1.3, flip=0.5)
STILL = {"rotation": 0.0, "shear": 0.0, "zoom": 1.0, "stretch": 1.0, "flip": False, "dx": 0.0, "dy": 0.0}


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def picture(height: int, width: int, channels: int) -> np.ndarray:
    """Smooth and without any symmetry, so that bilinear interpolation is gentle and no turn goes unnoticed."""
    noise = rng().integers(0, 256, (4, 5, channels), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, channels)


def one(*, canvas: int, **changes: float) -> np.ndarray:
    return affine_matrices(canvas=canvas, **{key: np.array([v]) for key, v in (STILL | changes).items()})[0]


def parts(matrices: np.ndarray) -> dict[str, np.ndarray]:
    """Rotation, shear, zoom, stretch and flip read back from the linear part, by R^T (R H S F)."""
    linear = matrices[:, :2, :2]
    determinant = np.linalg.det(linear)
    flip = determinant < 0
    first = linear[:, :, 0] * np.where(flip, -1, 1)[:, None]              # zoom * stretch * (cos, -sin)
    angle = np.arctan2(-first[:, 1], first[:, 0])
    zoom = np.sqrt(np.abs(determinant))
    stretch = np.hypot(*first.T) / zoom
    along = linear[:, 0, 1] * np.cos(angle) - linear[:, 1, 1] * np.sin(angle)   # zoom / stretch * tan(shear)
    shear = np.arctan(along * stretch / zoom)
    return {"rotation": np.rad2deg(angle), "shear": np.rad2deg(shear), "zoom": zoom, "stretch": stretch, "flip": flip}


# --- fit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fit", "fill", "width", "height"), [("longest", 0.5, 32, 16), ("stretch", 0.5, 32, 32), ("fixed", 0.25, 32, 16)]
)
def test_fit_covers_the_named_share_of_the_canvas_centred(fit: str, fill: float, width: int, height: int) -> None:
    matrix = fit_matrices(np.array([[64, 128]]), 64, fit=fit, fill=fill)[0]
    top_left, bottom_right = matrix @ [-0.5, -0.5, 1], matrix @ [127.5, 63.5, 1]   # the outer edges of the image
    np.testing.assert_allclose(bottom_right[:2] - top_left[:2], [width, height])
    np.testing.assert_allclose((bottom_right + top_left)[:2] / 2, [31.5, 31.5])


def test_fit_refuses_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="'longest', 'stretch' or 'fixed', found 'cover'"):
        fit_matrices(np.array([[4, 4]]), 8, fit="cover", fill=1.0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["longest", "stretch", "fixed"])
def test_an_image_of_the_canvas_size_comes_back_unchanged(fit: str, channels: int) -> None:
    images = rng().integers(0, 256, (3, 33, 33, channels), dtype=np.uint8)
    fitted = fit_matrices(np.full((3, 2), 33), 33, fit=fit, fill=1.0)
    drawn = draw_matrices(rng(), 3, augment=AugmentConfig(), canvas=33)
    np.testing.assert_array_equal(warp_batch(images, drawn @ fitted, canvas=33), images)


# --- one affine --------------------------------------------------------------------------------------------------


def test_composition_is_the_product_of_its_elementary_maps() -> None:
    canvas, c = 48, 23.5
    angle, slope = np.deg2rad(33.0), np.tan(np.deg2rad(12.0))
    shift = np.array([[1, 0, 3.5], [0, 1, -2.25], [0, 0, 1]])
    to_centre, back = np.array([[1, 0, -c], [0, 1, -c], [0, 0, 1]]), np.array([[1, 0, c], [0, 1, c], [0, 0, 1]])
    zoom = np.diag([1.4, 1.4, 1])
    turn = np.array([[np.cos(angle), np.sin(angle), 0], [-np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    shear = np.array([[1, slope, 0], [0, 1, 0], [0, 0, 1]])
    stretch, mirror = np.diag([1.2, 1 / 1.2, 1]), np.diag([-1, 1, 1])
    expected = shift @ back @ zoom @ turn @ shear @ stretch @ mirror @ to_centre
    found = one(canvas=canvas, rotation=33, shear=12, zoom=1.4, stretch=1.2, flip=True, dx=3.5, dy=-2.25)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("canvas", [16, 17])
def test_positive_rotation_is_counter_clockwise_like_rot90(canvas: int) -> None:
    image = picture(canvas, canvas, 1)
    turned = warp_batch([image], one(canvas=canvas, rotation=90)[None], canvas=canvas)[0]
    np.testing.assert_array_equal(turned, np.rot90(image))


def test_flip_translation_and_zoom_move_pixels_as_numpy_does() -> None:
    image = picture(16, 16, 3)
    flipped = warp_batch([image], one(canvas=16, flip=True)[None], canvas=16)[0]
    np.testing.assert_array_equal(flipped, image[:, ::-1])
    moved = warp_batch([image], one(canvas=16, dx=3, dy=-2)[None], canvas=16)[0]
    np.testing.assert_array_equal(moved[:-2, 3:], image[2:, :-3])
    assert moved[-2:].max() == 0
    assert moved[:, :3].max() == 0
    doubled = one(canvas=16, zoom=2.0) @ [7.5 + 2, 7.5 - 1, 1]
    np.testing.assert_allclose(doubled, [7.5 + 4, 7.5 - 2, 1])


def test_a_bright_dot_lands_where_the_drawn_matrix_says() -> None:
    canvas, sides = 64, np.array([[90, 120]])
    image = np.zeros((90, 120, 1), np.uint8)
    image[49:52, 63:66] = 255                                                # centre of mass (64, 50)
    fitted = fit_matrices(sides, canvas, fit="longest", fill=0.9)
    for drawn in draw_matrices(rng(), 20, augment=DEEPSEA, canvas=canvas):
        matrix = drawn @ fitted[0]
        warped = warp_batch([image], matrix[None], canvas=canvas)[0, :, :, 0].astype(np.float64)
        y, x = np.mgrid[:canvas, :canvas]
        found = np.array([(x * warped).sum(), (y * warped).sum()]) / warped.sum()
        np.testing.assert_allclose(found, (matrix @ [64, 50, 1])[:2], atol=0.35)


# --- the law of the draws ----------------------------------------------------------------------------------------


def test_draws_follow_the_ranges_and_laws_of_the_configuration() -> None:
    n, canvas = 20_000, 64
    drawn = draw_matrices(rng(), n, augment=DEEPSEA, canvas=canvas)
    found = parts(drawn)
    shift = drawn @ [31.5, 31.5, 1] - [31.5, 31.5, 1]                        # the flip and all else fix the centre
    for values, bound in [
        (found["rotation"], 180.0), (found["shear"], 20.0), (np.log(found["zoom"]), np.log(1.6)),
        (np.log(found["stretch"]), np.log(1.3)), (shift[:, 0], 6.4), (shift[:, 1], 6.4),
    ]:
        assert np.abs(values).max() <= bound * (1 + 1e-9)
        assert np.abs(values).max() > 0.999 * bound
        assert abs(values.mean()) < 4 * bound / np.sqrt(3 * n)               # uniform: deviation bound / sqrt(3)
        assert values.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
    assert found["flip"].mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(n))


def test_draws_are_distinct_and_follow_the_generator() -> None:
    first, again = (draw_matrices(rng(), 50, augment=DEEPSEA, canvas=32) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len({m.tobytes() for m in first}) == 50


@pytest.mark.parametrize(("flip", "share"), [(0.0, 0.0), (1.0, 1.0)])
def test_flip_is_a_probability(flip: float, share: float) -> None:
    drawn = draw_matrices(rng(), 500, augment=AugmentConfig(flip=flip), canvas=32)
    assert (np.linalg.det(drawn) < 0).mean() == share


def test_the_middle_of_the_unit_cube_is_the_identity() -> None:
    still = matrices_from_units(np.full((1, AXES), 0.5), augment=DEEPSEA, canvas=32)
    np.testing.assert_allclose(still[0], np.eye(3), atol=1e-12)


# --- warp --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_warp_equals_opencv_one_image_at_a_time_and_fills_the_buffer(channels: int) -> None:
    shapes = np.array([[31, 21], [64, 64], [90, 200], [5, 7]])
    images = [picture(h, w, channels) for h, w in shapes]
    for image in images:
        image.flags.writeable = False                                        # as views of a read-only memmap are
    matrices = draw_matrices(rng(), 4, augment=DEEPSEA, canvas=32) @ fit_matrices(shapes, 32, fit="longest", fill=1.0)
    out = np.full((4, 32, 32, channels), 7, np.uint8)
    assert warp_batch(images, matrices, canvas=32, out=out) is out
    for image, matrix, warped in zip(images, matrices, out, strict=True):
        expected = cv2.warpAffine(image, matrix[:2], (32, 32), flags=cv2.INTER_LINEAR).reshape(32, 32, channels)
        np.testing.assert_array_equal(warped, expected)
    np.testing.assert_array_equal(warp_batch(images, matrices, canvas=32), out)


def test_warp_refuses_what_does_not_fit() -> None:
    grey, eye = picture(8, 8, 1), np.eye(3)[None]
    with pytest.raises(ValueError, match="one matrix per image, found 1 for 2 images"):
        warp_batch([grey, grey], eye, canvas=8)
    with pytest.raises(ValueError, match=r"contiguous uint8 \(1, 8, 8, 1\), found float32"):
        warp_batch([grey], eye, canvas=8, out=np.zeros((1, 8, 8, 1), np.float32))
    with pytest.raises(ValueError, match=r"uint8 with 1 channels, found float32"):
        warp_batch([grey.astype(np.float32)], eye, canvas=8)
    with pytest.raises(ValueError, match=r"uint8 with 3 channels, found uint8 \(8, 8, 1\)"):
        warp_batch([picture(8, 8, 3), grey], eye.repeat(2, axis=0), canvas=8)


# --- views -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("canvas", [12, 13])
@pytest.mark.parametrize("channels", [1, 3])
def test_dihedral_views_are_exactly_numpys(canvas: int, channels: int) -> None:
    image = rng().integers(0, 256, (canvas, canvas, channels), dtype=np.uint8)
    matrices = view_matrices(TtaConfig(kind="dihedral"), augment=DEEPSEA, canvas=canvas)
    expected = [np.rot90(base, k) for base in (image, np.fliplr(image)) for k in range(4)]
    np.testing.assert_array_equal(warp_batch([image] * 8, matrices, canvas=canvas), expected)


def test_flips_and_identity_are_exactly_numpys() -> None:
    image = picture(12, 12, 1)
    flips = view_matrices(TtaConfig(kind="flips"), augment=DEEPSEA, canvas=12)
    expected = [image, np.fliplr(image), np.flipud(image), np.rot90(image, 2)]
    np.testing.assert_array_equal(warp_batch([image] * 4, flips, canvas=12), expected)
    identity = view_matrices(TtaConfig(kind="identity"), augment=DEEPSEA, canvas=12)
    np.testing.assert_array_equal(identity, np.eye(3)[None])


def test_affine_views_are_deterministic_start_with_the_identity_and_stay_in_range() -> None:
    tta = TtaConfig(kind="affine", views=70, scale=0.5)
    views = view_matrices(tta, augment=DEEPSEA, canvas=64)
    np.testing.assert_array_equal(views, view_matrices(tta, augment=DEEPSEA, canvas=64))
    assert views.shape == (70, 3, 3)
    np.testing.assert_array_equal(views[0], np.eye(3))
    found = parts(views)
    assert np.abs(found["rotation"]).max() > 170                             # the full circle is kept
    assert 9 < np.abs(found["shear"]).max() <= 10
    assert np.sqrt(1.6) * 0.95 < found["zoom"].max() <= np.sqrt(1.6)
    assert np.sqrt(1.3) * 0.95 < found["stretch"].max() <= np.sqrt(1.3)
    assert np.abs((views @ [31.5, 31.5, 1])[:, :2] - 31.5).max() <= 3.2
    assert found["flip"].mean() == pytest.approx(0.5, abs=0.06)              # Halton in base 11: 39 of 70
    assert len({m.tobytes() for m in views}) == 70


def test_affine_views_are_nested_and_their_second_is_halton_point_one() -> None:
    few, many = (view_matrices(TtaConfig(kind="affine", views=n), augment=DEEPSEA, canvas=32) for n in (4, 16))
    np.testing.assert_allclose(few, many[:4])
    unit = np.array([[1 / p for p in (2, 3, 5, 7, 11, 13, 17)]])             # Halton's first point, bases the primes
    expected = matrices_from_units(unit, augment=narrowed(DEEPSEA, scale=0.5), canvas=32)
    np.testing.assert_allclose(few[1], expected[0])


def test_views_never_do_what_training_did_not() -> None:
    augment = AugmentConfig(rotation=30, zoom=1.2)
    found = parts(view_matrices(TtaConfig(kind="affine", views=64, scale=1.0), augment=augment, canvas=32))
    assert not found["flip"].any()
    assert np.abs(found["rotation"]).max() <= 30
    np.testing.assert_allclose(found["stretch"], 1)
    still = view_matrices(TtaConfig(kind="affine", views=9, scale=0.0), augment=augment, canvas=32)
    np.testing.assert_allclose(still, np.tile(np.eye(3), (9, 1, 1)), atol=1e-12)


# --- the albumentations transform ----------------------------------------------------------------------------------


def test_the_batched_augmentation_equals_the_one_image_transform() -> None:
    shapes = np.array([[31, 21], [64, 64], [90, 200]])
    transform = ComposedAffine(canvas=32, fit="longest", fill=0.9, **DEEPSEA.model_dump())
    transform.set_random_seed(5)
    generator = np.random.default_rng(5)
    drawn = np.concatenate([draw_matrices(generator, 1, augment=DEEPSEA, canvas=32) for _ in shapes])
    images = [picture(h, w, 3) for h, w in shapes]
    batch = warp_batch(images, drawn @ fit_matrices(shapes, 32, fit="longest", fill=0.9), canvas=32)
    for image, expected in zip(images, batch, strict=True):
        np.testing.assert_array_equal(transform(image=image)["image"], expected)


def test_compose_reproduces_by_seed_and_draws_anew_each_time() -> None:
    def draws(seed: int) -> list[bytes]:
        compose = A.Compose([ComposedAffine(canvas=24, **DEEPSEA.model_dump())], seed=seed)
        return [compose(image=picture(40, 30, 1))["image"].tobytes() for _ in range(8)]

    assert draws(1) == draws(1)
    assert len(set(draws(1) + draws(2))) == 16


def test_set_random_seed_restarts_a_compose() -> None:
    compose = A.Compose([ComposedAffine(canvas=24, rotation=180)], seed=1)
    first = compose(image=picture(24, 24, 1))["image"]
    compose.set_random_seed(1)
    np.testing.assert_array_equal(compose(image=picture(24, 24, 1))["image"], first)


@pytest.mark.parametrize(("shape", "expected"), [((40, 30), (24, 24)), ((40, 30, 1), (24, 24, 1)),
                                                 ((40, 30, 3), (24, 24, 3))])
def test_the_transform_keeps_the_number_of_dimensions(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    image = np.full(shape, 9, np.uint8)
    result = A.Compose([ComposedAffine(canvas=24, fit="stretch"), A.HorizontalFlip(p=1.0)])(image=image)["image"]
    assert result.shape == expected
    assert (result[2:-2, 2:-2] == 9).all()


def test_the_transform_survives_serialisation() -> None:
    transform = ComposedAffine(canvas=24, fit="fixed", fill=0.5, **DEEPSEA.model_dump())
    again = A.from_dict(A.to_dict(A.Compose([transform]))).transforms[0]
    assert again.to_dict() == transform.to_dict()
    assert (again.canvas, again.fit, again.fill, again.zoom) == (24, "fixed", 0.5, 1.6)


@pytest.mark.parametrize("bad", [{"zoom": 0.5}, {"fit": "cover"}, {"canvas": 0}, {"flip": 1.5}])
def test_the_transform_refuses_what_the_configuration_refuses(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        ComposedAffine(**bad)


def test_the_fast_path_does_not_import_albumentations() -> None:
    code = ("import sys; import pipeline.augment.affine, pipeline.augment.warp, pipeline.augment.views; "
            "print('albumentations' in sys.modules, 'torch' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
