"""The deterministic views that a prediction is averaged over, as maps of the canvas onto itself."""

import numpy as np
from scipy.stats import qmc

from pipeline.augment.affine import AXES, matrices_from_units
from pipeline.config.model import AugmentConfig, TtaConfig

# Rows x', y' in centred coordinates (x right, y down): the canvas turned by 0, 90, 180, 270 degrees counter-clockwise.
TURNS = np.array([[[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]]])
MIRROR = np.array([[-1, 0], [0, 1]])
CROPS = np.array([[0, 0], [-1, -1], [1, -1], [-1, 1], [1, 1]])   # x, y of a crop: as far as it goes without leaving


def view_matrices(tta: TtaConfig, *, augment: AugmentConfig, canvas: int) -> np.ndarray:
    """Maps canvas -> canvas of the views, `(V, 3, 3)` float64; the first is the identity, except for crops.

    identity: V = 1. flips: as is, left-right, up-down, both. dihedral: numpy.rot90 by 0 to 3 turns, then the same
    after a left-right mirror. affine: `tta.views` Halton points over the ranges of `augment`, narrowed by `tta.scale`
    (Deep Sea, NDSB 2015: 70 of them). crops: V = 10, squares of `tta.crop * canvas` px blown up to the canvas: centre,
    top left, top right, bottom left, bottom right, then the same mirrored left-right. None of the ten is the identity:
    features are embedded apart from them. Source: Krizhevsky et al. 2012, "ImageNet classification", section 4.1.
    """
    if tta.kind == "affine":
        return _halton(tta.views, augment=narrowed(augment, scale=tta.scale), canvas=canvas)
    if tta.kind == "crops":
        return _crops(tta.crop, canvas=canvas)
    dihedral = np.concatenate([TURNS, TURNS @ MIRROR])                        # (8, 2, 2)
    chosen = {"identity": [0], "flips": [0, 4, 6, 2], "dihedral": list(range(8))}[tta.kind]
    linear = dihedral[chosen].astype(np.float64)                              # (V, 2, 2)
    return _centred(linear, points=np.zeros((len(linear), 2)), canvas=canvas)


def narrowed(augment: AugmentConfig, *, scale: float) -> AugmentConfig:
    """The ranges times `scale`, zoom and stretch in the logarithm.

    Any-angle rotation stays the full circle, and a mirror that training used at all is used for half of the views:
    a network that was trained without a preferred direction has none to be spared.
    """
    return AugmentConfig(
        rotation=augment.rotation if augment.rotation == 180 else augment.rotation * scale,
        translation=augment.translation * scale,
        zoom=augment.zoom**scale,
        shear=augment.shear * scale,
        stretch=augment.stretch**scale,
        flip=0.5 if augment.flip > 0 else 0.0,
    )


def _halton(n: int, *, augment: AugmentConfig, canvas: int) -> np.ndarray:
    """The identity, then Halton points 1 to n - 1; point 0, the corner of the cube, is the one that it replaces."""
    units = qmc.Halton(AXES, scramble=False).random(n)                        # (V, 7)
    matrices = matrices_from_units(units, augment=augment, canvas=canvas)
    matrices[0] = np.eye(3)
    return matrices


def _crops(crop: float, *, canvas: int) -> np.ndarray:
    """Five crops, then the five mirrored, `(10, 3, 3)`."""
    points = CROPS * (1 - crop) / 2 * canvas                                  # (5, 2) px from the canvas centre
    linear = np.stack([np.eye(2), MIRROR]).repeat(5, axis=0) / crop           # (10, 2, 2)
    return _centred(linear, points=np.tile(points, (2, 1)), canvas=canvas)


def _centred(linear: np.ndarray, *, points: np.ndarray, canvas: int) -> np.ndarray:
    """p -> c + linear (p - c - point), c the canvas centre: `(V, 2, 2)` and `(V, 2)` as `(V, 3, 3)`."""
    centre = np.full(2, (canvas - 1) / 2)
    matrices = np.tile(np.eye(3), (len(linear), 1, 1))                        # (V, 3, 3)
    matrices[:, :2, :2] = linear
    matrices[:, :2, 2] = centre - np.einsum("vij,vj->vi", linear, centre + points)
    return matrices
