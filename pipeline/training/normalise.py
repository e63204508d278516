"""Mean and standard deviation of the pixels that a network learns from."""

import numpy as np

from pipeline.config.model import ModelConfig
from pipeline.data.store import Packed
from pipeline.training.batches import view_batches

LOWEST_STD = 1 / 255  # one grey level: keeps blank images finite


def mean_and_std(
    packed: Packed, rows: np.ndarray, *, config: ModelConfig, sample: int = 4096
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per channel, in units of x / 255, over the canvas without augmentation; of `rows` alone.

    More than `sample` rows are represented by `sample` evenly spaced ones. Sums are of integers, so they are exact.
    """
    chosen = rows[np.linspace(0, len(rows) - 1, min(sample, len(rows))).round().astype(np.int64)]
    total = np.zeros(packed.channels, np.int64)
    squares = np.zeros(packed.channels, np.int64)
    for batch in view_batches(packed, chosen, config=config, matrix=np.eye(3), batch=256):
        pixels = batch.reshape(-1, packed.channels).astype(np.int64)                                       # (B S S, C)
        total += pixels.sum(axis=0)
        squares += (pixels * pixels).sum(axis=0)
    count = len(chosen) * config.canvas**2
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return tuple((mean / 255).tolist()), tuple(np.maximum(std / 255, LOWEST_STD).tolist())
