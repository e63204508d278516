"""Two training images in one, with their labels: mixup and CutMix as one blend by a map of weights."""

import numpy as np
import torch
from torch import Tensor

from pipeline.config.model import MixConfig


def mix_batch(
    images: Tensor, targets: Tensor, *, config: MixConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """x <- (1 - w) x + w x', and t <- (1 - v) t + v t' with v the mean of w over the image; x' is another image's x.

    `images` `(B, C, H, W)`, strides kept, and `targets` `(B, C)` are left as they are. w is one number per image for
    mixup, and 1 inside a rectangle and 0 outside for CutMix. A batch is mixed with `config.probability`, by one of
    the kinds that are on, all alike; every image has its own w, which spreads the blends more evenly over a step than
    one w per batch, as in the papers' code. Partners are a permutation: each image is given once. Source: Zhang et
    al. 2017, section 2, with w ~ Beta(alpha, alpha); Yun et al. 2019, eq. 1 and 2, with v the area after clipping.
    """
    if rng.random() >= config.probability:
        return images, targets
    kinds = [(draw, alpha) for draw, alpha in ((_mixup, config.mixup), (_cutmix, config.cutmix)) if alpha is not None]
    draw, alpha = kinds[rng.integers(len(kinds))]
    n, _, height, width = images.shape
    shares = rng.beta(alpha, alpha, n)                                                        # (B,)
    weights = draw(shares, height, width, rng=rng)                                            # (B, 1, H or 1, W or 1)
    partners = torch.from_numpy(rng.permutation(n)).to(images.device)                         # (B,)
    mixed = torch.lerp(images, images[partners], torch.from_numpy(weights).to(images), out=torch.empty_like(images))
    means = weights.mean(axis=(1, 2, 3), dtype=np.float64)                                    # (B,)
    return mixed, torch.lerp(targets, targets[partners], torch.from_numpy(means).to(targets)[:, None])


def _mixup(shares: np.ndarray, height: int, width: int, *, rng: np.random.Generator) -> np.ndarray:
    return shares[:, None, None, None].astype(np.float32)


def _cutmix(shares: np.ndarray, height: int, width: int, *, rng: np.random.Generator) -> np.ndarray:
    """A rectangle of `shares` of the area, of the image's proportions, about any of its pixels, cut off at the edge."""
    down, along = (_spans(shares, side, rng=rng) for side in (height, width))                 # (B, H), (B, W)
    return (down[:, None, :, None] & along[:, None, None, :]).astype(np.float32)


def _spans(shares: np.ndarray, side: int, *, rng: np.random.Generator) -> np.ndarray:
    lengths = (side * np.sqrt(shares)).astype(np.int64)                                       # (B,)
    starts = rng.integers(side, size=len(shares)) - lengths // 2
    positions = np.arange(side)
    return (starts[:, None] <= positions) & (positions < (starts + lengths)[:, None])         # (B, side)
