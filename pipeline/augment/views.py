"""The deterministic views that a prediction is averaged over, as maps of the canvas onto itself."""

import numpy as np
from scipy.stats import qmc

from pipeline.augment.affine import AXES, matrices_from_units
from pipeline.config.model import AugmentConfig, TtaConfig

# Rows x', y' in centred coordinates (x right, y down): the canvas turned by 0, 90, 180, 270 degrees counter-clockwise.
TURNS = np.array([[[1, 0], [0, 1]], [[0, 1], [-1, 0]], [[-1, 0], [0, -1]], [[0, -1], [1, 0]]])
MIRROR = np.array([[-1, 0], [0, 1]])


def view_matrices(tta: TtaConfig, *, augment: AugmentConfig, canvas: int) -> np.ndarray:
    """Maps canvas -> canvas of the views, `(V, 3, 3)` float64; the first is the identity.

    identity: V = 1. flips: as is, left-right, up-down, both. dihedral: numpy.rot90 by 0 to 3 turns, then the same
    after a left-right mirror. affine: `tta.views` Halton points over the ranges of `augment`, narrowed by `tta.scale`.
    Source of the last: Deep Sea (NDSB 2015), 70 quasi-random affine views.
    """
    if tta.kind == "affine":
        return _halton(tta.views, augment=narrowed(augment, scale=tta.scale), canvas=canvas)
    dihedral = np.concatenate([TURNS, TURNS @ MIRROR])                        # (8, 2, 2)
    chosen = {"identity": [0], "flips": [0, 4, 6, 2], "dihedral": list(range(8))}[tta.kind]
    linear = dihedral[chosen].astype(np.float64)                              # (V, 2, 2)
    centre = np.full(2, (canvas - 1) / 2)
    matrices = np.tile(np.eye(3), (len(linear), 1, 1))                        # (V, 3, 3)
    matrices[:, :2, :2] = linear
    matrices[:, :2, 2] = centre - linear @ centre
    return matrices


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
