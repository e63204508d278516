"""The learning rate over the steps of a run, as a factor of its base."""

import math

from pipeline.config.model import ScheduleConfig

START = 25.0            # one_cycle begins at 1 / START of the top
SWING = 0.1             # one_cycle: momentum is this much lower at the top


def factor(step: int, config: ScheduleConfig, *, steps: int, epochs: int, drops: int = 0) -> float:
    """What the base learning rate is multiplied with at `step` (0-based) of `epochs` of `steps` each, in (0, 1].

    Warm-up rises linearly: `(step + 1) / (w + 1)` over the first `w = warmup * total` steps. Then "cosine" falls by
    half a period from 1 towards `floor`, in each of `cycles`; "step" falls by `factor` at each share in `steps`,
    "plateau" by `factor` for each of the `drops` that `training.state` counts; "constant" stays at 1. "one_cycle" is
    half a cosine from 1 / 25 to 1 over `warmup`, and half a cosine towards `floor` (Smith & Topin 2019, section 3).
    """
    total = steps * epochs
    warm = int(config.warmup * total)
    if step < warm:
        rise = (step + 1) / (warm + 1)
        return 1 - (1 - 1 / START) * _fallen(rise) if config.name == "one_cycle" else rise
    if config.name in ("cosine", "one_cycle"):
        ends = [end * steps for end in cycle_ends(config, epochs=epochs)]
        cycle = next(i for i, end in enumerate(ends) if step < end)
        start = ends[cycle - 1] if cycle else 0
        start = max(start, min(warm, ends[cycle] - 1))
        return config.floor + (1 - config.floor) * _fallen((step - start) / (ends[cycle] - start))
    if config.name == "step":
        return config.factor ** sum(step >= share * total for share in config.steps)
    return config.factor ** drops


def momentum_factor(step: int, config: ScheduleConfig, *, steps: int, epochs: int) -> float:
    """What the base momentum is multiplied with: 1; under "one_cycle" 0.9 where the rate is highest, 1 at its ends."""
    if config.name != "one_cycle":
        return 1.0
    return 1 - SWING * factor(step, config, steps=steps, epochs=epochs)


def cycle_ends(config: ScheduleConfig, *, epochs: int) -> list[int]:
    """Epochs after which a cycle is over, `(cycles,)`; the last is `epochs`. Cycles differ by at most one epoch."""
    cycles = config.cycles if config.name == "cosine" else 1
    return [(i + 1) * epochs // cycles for i in range(cycles)]


def _fallen(share: float) -> float:
    """From 1 at `share` 0 to 0 at 1, by half a period of the cosine."""
    return 0.5 * (1 + math.cos(math.pi * share))
