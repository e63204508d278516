"""The learning rate over the steps of a run."""

import math

from pipeline.config.model import ScheduleConfig


def factor(step: int, total: int, config: ScheduleConfig) -> float:
    """What the base learning rate is multiplied with at `step` of `total` (0-based), in (0, 1].

    Warm-up rises linearly: `(step + 1) / (w + 1)` over the first `w = warmup * total` steps. Then "cosine" falls by
    half a period from 1 towards 0, "step" falls by `factor` at each share in `steps`, "constant" stays at 1.
    """
    warm = int(config.warmup * total)
    if step < warm:
        return (step + 1) / (warm + 1)
    if config.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
    if config.name == "step":
        return config.factor ** sum(step >= share * total for share in config.steps)
    return 1.0
