"""Warping a batch: one bilinear `cv2.warpAffine` per image, straight from the source into the batch's memory."""

from collections.abc import Sequence

import cv2
import numpy as np


def warp_batch(
    images: Sequence[np.ndarray], matrices: np.ndarray, *, canvas: int, out: np.ndarray | None = None
) -> np.ndarray:
    """Image i through forward map i, `(n, canvas, canvas, C)` uint8; what no source pixel covers is zero.

    `images` are `(h, w, C)` uint8 of any sizes; `matrices` is `(n, 3, 3)`, source -> canvas. `out`, when given, is
    a C-contiguous buffer of the result's shape, filled and returned. Raises ValueError for an image, a list of
    matrices or a buffer that does not fit.
    """
    channels = images[0].shape[2] if len(images) else 1
    shape = (len(images), canvas, canvas, channels)
    if len(matrices) != len(images):
        raise ValueError(f"expected one matrix per image, found {len(matrices)} for {len(images)} images")
    if out is None:
        out = np.empty(shape, np.uint8)
    elif out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ValueError(f"out: expected contiguous uint8 {shape}, found {out.dtype} {out.shape}")
    warp, flags, border = cv2.warpAffine, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT  # a constant border is the fast path
    side = (canvas, canvas)
    targets = out[..., 0] if channels == 1 else out
    for image, matrix, target in zip(images, np.ascontiguousarray(matrices[:, :2]), targets, strict=True):
        if warp(image, matrix, side, target, flags, border) is not target:     # OpenCV writes elsewhere on a mismatch
            raise ValueError(f"images: expected uint8 with {channels} channels, found {image.dtype} {image.shape}")
    return out
