"""Affine maps as 3x3 matrices: fitting an image into the canvas, and one random map about the canvas centre.

All matrices are forward maps (where a point of the input goes) in pixel-index coordinates: x right, y down, the
centre of an image of width w is (w - 1) / 2.
"""

import numpy as np

from pipeline.config.model import AugmentConfig

AXES = 7  # rotation, shear, zoom, stretch, flip, dx, dy


def draw_matrices(rng: np.random.Generator, n: int, *, augment: AugmentConfig, canvas: int) -> np.ndarray:
    """`n` independent random maps canvas -> canvas, `(n, 3, 3)` float64, with the ranges and laws of `augment`.

    Source: Deep Sea (NDSB 2015), one composed affine and one bilinear interpolation.
    """
    return matrices_from_units(rng.random((n, AXES)), augment=augment, canvas=canvas)


def matrices_from_units(units: np.ndarray, *, augment: AugmentConfig, canvas: int) -> np.ndarray:
    """Points of the unit cube `(n, 7)` as maps `(n, 3, 3)`: uniform points give the law of `augment`.

    The axes are rotation, shear, zoom, stretch, flip, dx, dy. Zoom and stretch are uniform in the logarithm;
    the flip happens where its coordinate is below `augment.flip`.
    """
    signed = 2 * units - 1                                                    # (n, 7) in [-1, 1)
    shift = augment.translation * canvas
    return affine_matrices(
        canvas=canvas,
        rotation=augment.rotation * signed[:, 0],
        shear=augment.shear * signed[:, 1],
        zoom=augment.zoom ** signed[:, 2],
        stretch=augment.stretch ** signed[:, 3],
        flip=units[:, 4] < augment.flip,
        dx=shift * signed[:, 5],
        dy=shift * signed[:, 6],
    )


def affine_matrices(
    *,
    canvas: int,
    rotation: np.ndarray,
    shear: np.ndarray,
    zoom: np.ndarray,
    stretch: np.ndarray,
    flip: np.ndarray,
    dx: np.ndarray,
    dy: np.ndarray,
) -> np.ndarray:
    """p -> c + (dx, dy) + zoom R H S F (p - c) with c the canvas centre; all arguments `(n,)`, result `(n, 3, 3)`.

    F mirrors x where `flip` is true; S = diag(stretch, 1 / stretch); H moves x by y tan(shear); R turns
    counter-clockwise as seen on the screen, like numpy.rot90. Angles in degrees, shifts in canvas px.
    """
    angle = np.deg2rad(rotation)
    cos, sin = np.cos(angle), np.sin(angle)
    slope = np.tan(np.deg2rad(shear))
    x_scale = zoom * stretch * np.where(flip, -1.0, 1.0)
    y_scale = zoom / stretch
    linear = np.stack(
        [x_scale * cos, y_scale * (cos * slope + sin), -x_scale * sin, y_scale * (cos - sin * slope)], axis=-1
    ).reshape(-1, 2, 2)                                                       # (n, 2, 2)
    centre = np.full(2, (canvas - 1) / 2)
    return _about(linear, source=centre, target=centre + np.stack([dx, dy], axis=-1))


def fit_matrices(shapes: np.ndarray, canvas: int, *, fit: str, fill: float) -> np.ndarray:
    """Maps that centre images in the canvas, source -> canvas, `(n, 3, 3)` float64.

    `shapes` is `(n, 2)`: height and width in px. `fit` is "longest" (the longer side covers `fill * canvas` px),
    "stretch" (both sides do) or "fixed" (`fill` canvas px per image px); raises ValueError for another.
    """
    sides = np.asarray(shapes, dtype=np.float64)[:, ::-1]                     # (n, 2) width, height
    if fit == "longest":
        scale = np.repeat(fill * canvas / sides.max(axis=1, keepdims=True), 2, axis=1)
    elif fit == "stretch":
        scale = fill * canvas / sides
    elif fit == "fixed":
        scale = np.full_like(sides, fill)
    else:
        raise ValueError(f"fit: expected 'longest', 'stretch' or 'fixed', found {fit!r}")
    linear = scale[:, :, None] * np.eye(2)                                    # (n, 2, 2)
    return _about(linear, source=(sides - 1) / 2, target=np.full(2, (canvas - 1) / 2))


def _about(linear: np.ndarray, *, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """p -> target + linear (p - source): `(n, 2, 2)` and centres `(n, 2)` or `(2,)` as `(n, 3, 3)`."""
    matrices = np.zeros((len(linear), 3, 3))
    matrices[:, :2, :2] = linear
    matrices[:, :2, 2] = target - np.einsum("nij,nj->ni", linear, np.broadcast_to(source, (len(linear), 2)))
    matrices[:, 2, 2] = 1.0
    return matrices
