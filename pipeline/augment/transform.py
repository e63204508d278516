"""The composed affine as an albumentations transform, for any `Compose`."""

import os
from typing import Any, Literal

import numpy as np
from pydantic import Field

# Without it the import of albumentations asks PyPI for a newer version: slow, and no network is no error here.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from albumentations.core.transforms_interface import BaseTransformInitSchema, ImageOnlyTransform

from pipeline.augment.affine import draw_matrices, fit_matrices
from pipeline.augment.warp import warp_batch
from pipeline.config.model import AugmentConfig


class ComposedAffine(ImageOnlyTransform):
    """One bilinear warp from an image of any size to the canvas: the fit, then one draw of `draw_matrices`.

    Arguments as in `ModelConfig` and `AugmentConfig`. Takes uint8 images `(h, w)` or `(h, w, C)` with 1 to 4
    channels, returns `(canvas, canvas)` or `(canvas, canvas, C)`. With p < 1 an image may keep its size. Draws from
    albumentations' own generator, so `Compose(seed=)` and `set_random_seed` reproduce it. Raises ValueError.
    """

    class InitSchema(AugmentConfig, BaseTransformInitSchema):
        """Ranges that albumentations checks before `__init__`."""

        canvas: int = Field(ge=1)
        fit: Literal["longest", "stretch", "fixed"]
        fill: float = Field(gt=0)

    def __init__(
        self,
        canvas: int = 64,
        fit: Literal["longest", "stretch", "fixed"] = "longest",
        fill: float = 1.0,
        rotation: float = 0.0,
        translation: float = 0.0,
        zoom: float = 1.0,
        shear: float = 0.0,
        stretch: float = 1.0,
        flip: float = 0.0,
        p: float = 1.0,
    ) -> None:
        super().__init__(p=p)
        self.canvas, self.fit, self.fill = canvas, fit, fill
        self.rotation, self.translation, self.zoom = rotation, translation, zoom
        self.shear, self.stretch, self.flip = shear, stretch, flip

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """`matrix`: source -> canvas, `(3, 3)`."""
        augment = AugmentConfig(rotation=self.rotation, translation=self.translation, zoom=self.zoom,
                                shear=self.shear, stretch=self.stretch, flip=self.flip)
        drawn = draw_matrices(self.random_generator, 1, augment=augment, canvas=self.canvas)
        fitted = fit_matrices(np.array([params["shape"][:2]]), self.canvas, fit=self.fit, fill=self.fill)
        return {"matrix": (drawn @ fitted)[0]}

    def apply(self, img: np.ndarray, matrix: np.ndarray, **params: Any) -> np.ndarray:
        """The image through `matrix`."""
        image = img[..., None] if img.ndim == 2 else img                      # (h, w, C)
        warped = warp_batch([image], matrix[None], canvas=self.canvas)[0]     # (canvas, canvas, C)
        return warped[..., 0] if img.ndim == 2 else warped
