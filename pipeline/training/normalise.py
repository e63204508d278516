"""Statistics of the pixels that a network learns from: mean, standard deviation, whitening."""

from typing import Literal

import numpy as np
import torch

from pipeline.nets.whiten import fit_whitening
from pipeline.training.batches import to_tensors
from pipeline.training.feed import Images

LOWEST_STD = 1 / 255  # one grey level: keeps blank images finite
Numbers = tuple[float, ...]
SAMPLE = 4096         # rows that stand for all


def mean_and_std(feed: Images, rows: np.ndarray, *, sample: int = SAMPLE) -> tuple[Numbers, Numbers]:
    """Per channel, in units of x / 255, over the canvas without augmentation; of `rows` alone.

    More than `sample` rows are represented by `sample` evenly spaced ones. Sums are of integers, so they are exact.
    """
    channels = feed.packed.channels * (1 + len(feed.config.scales))
    total, squares, count = np.zeros(channels, np.int64), np.zeros(channels, np.int64), 0
    for images, *_ in feed.view(spaced(rows, sample), None, batch=256):
        pixels = images.reshape(-1, channels).astype(np.int64)                                             # (B S S, C)
        total += pixels.sum(axis=0)
        squares += (pixels * pixels).sum(axis=0)
        count += len(pixels)
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return tuple((mean / 255).tolist()), tuple(np.maximum(std / 255, LOWEST_STD).tolist())


def fitted_whitening(
    feed: Images, rows: np.ndarray, *,
    kind: Literal["pca", "zca"], mean: torch.Tensor, std: torch.Tensor, sample: int = SAMPLE,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean `(D,)` and matrix `(D, D)` of `fit_whitening` on normalised plain images of `rows`, sampled as above."""
    images = [to_tensors(inputs[:1], mean=mean, std=std)[0]
              for inputs in feed.view(spaced(rows, sample), None, batch=256)]
    return fit_whitening(torch.cat(images), kind)


def column(values: Numbers, device: torch.device | str = "cpu") -> torch.Tensor:
    """One number per channel as `(C, 1, 1)` float32."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(-1, 1, 1)


def spaced(rows: np.ndarray, sample: int) -> np.ndarray:
    """`rows`, or `sample` evenly spaced ones where there are more."""
    return rows[np.linspace(0, len(rows) - 1, min(sample, len(rows))).round().astype(np.int64)]
