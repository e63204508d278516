"""Random erasing: a rectangle of the image becomes noise."""

import numpy as np
import torch
from torch import Tensor

from pipeline.config.model import EraseConfig


def erase(images: Tensor, *, config: EraseConfig, rng: np.random.Generator) -> Tensor:
    """With `config.probability`, each image loses one rectangle to N(0, 1) noise, another for each pixel and channel.

    `images` `(B, C, H, W)` are normalised, so that the noise is like them; they are left as they are, and the result
    keeps their strides. The area is uniform in `config.area`, height : width log-uniform over those of `config.aspect`
    that fit (the paper draws again until one does, which prefers small areas), the place uniform over those within
    the image. Source: Zhong et al. 2017, algorithm 1.
    """
    n, channels, height, width = images.shape
    chosen = np.flatnonzero(rng.random(n) < config.probability)
    if not len(chosen):
        return images
    areas = rng.uniform(*config.area, len(chosen))
    rows, columns = _sides(areas, height, width, aspect=config.aspect, rng=rng)
    tops = rng.integers(height - rows + 1)
    lefts = rng.integers(width - columns + 1)
    sizes = channels * rows * columns
    noise = torch.from_numpy(rng.standard_normal(sizes.sum(), dtype=np.float32)).to(images)
    erased = images.clone()
    patches = noise.split(sizes.tolist())
    for i, top, left, h, w, patch in zip(chosen, tops, lefts, rows, columns, patches, strict=True):
        erased[i, :, top:top + h, left:left + w] = patch.view(channels, h, w)
    return erased


def _sides(
    areas: np.ndarray, height: int, width: int, *, aspect: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths `(n,)` in px, at least 1, of rectangles of `areas` (shares of the image)."""
    image = height / width
    lowest = np.clip(areas * image, 1 / aspect, aspect)       # flatter than this is wider than the image
    highest = np.clip(image / areas, 1 / aspect, aspect)      # steeper than this is higher
    aspects = np.exp(rng.uniform(np.log(lowest), np.log(highest)))
    pixels = areas * height * width
    rows = np.clip(np.rint(np.sqrt(pixels * aspects)), 1, height)
    columns = np.clip(np.rint(np.sqrt(pixels / aspects)), 1, width)
    return rows.astype(np.int64), columns.astype(np.int64)
