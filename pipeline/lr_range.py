"""The learning-rate range test: a network is trained while the rate rises, and its loss tells which rates suit it.

Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from scipy.signal import lfilter

from pipeline.errors import UserError
from pipeline.rng import derive
from pipeline.training.epoch import train_epoch
from pipeline.training.job import FoldJob
from pipeline.training.optimiser import make_optimiser
from pipeline.training.precision import make_scaler
from pipeline.training.setting import epoch_batches, prepare_fold

MEMORY = 0.1            # share of all steps that the smoothed loss remembers: 1 / (1 - decay)
SPAN = 0.05             # share of all steps on either side of a rate over which the slope is taken
WORSE = 4.0             # times the lowest smoothed loss: it has diverged
FALLEN = 0.95           # times the first smoothed losses: below it the loss has fallen
FEWEST = 40             # steps of a test


@dataclass(frozen=True)
class RangeCurve:
    """Losses of T steps, each of the weights before the step that is taken at its rate."""

    lrs: np.ndarray         # (T,) float64, rising by one factor
    losses: np.ndarray      # (T,) of the batches
    smoothed: np.ndarray    # (T,)
    steps: int              # that were asked for; T is less where the loss diverged


@dataclass(frozen=True)
class Suggestion:
    """What a range test says about `optimiser.lr`."""

    steepest: float         # rate at which the smoothed loss falls fastest over log lr
    lowest: float           # rate at which it is lowest
    bound: float            # a tenth of that
    turned: bool            # False where the loss was lowest at the highest rate that was asked for


def range_test(
    job: FoldJob, *, low: float, high: float, steps: int,
    after_step: Callable[[int, float], None] = lambda step, loss: None,
) -> RangeCurve:
    """Trains the job's network from its first weights, while the rate rises from `low` to `high` by one factor a step.

    Weights, batches, augmentation, loss, precision, weight decay and clipping are those of the first epochs of its
    training; `held_rows` are not looked at, and no file is written. It ends early where the loss is not finite (that
    step is left out) or its smoothed value exceeds 4 times the lowest. `after_step` is told the number of steps so far
    and the smoothed loss. Seeds torch's generator.
    """
    setting, net = prepare_fold(job)
    config, device = job.config, torch.device(job.device)
    optimiser, scaler = make_optimiser(net, config.optimiser), make_scaler(job.precision, device)
    lrs = np.geomspace(low, high, steps)
    losses: list[float] = []
    before = 0.0

    def note(step: int, loss_sum: torch.Tensor) -> None:
        nonlocal before
        total = float(loss_sum)
        if not math.isfinite(total):
            raise _EndedError
        losses.append(total - (before if step > 1 else 0.0))
        before = total
        smoothed = smooth(np.array(losses), steps=steps)
        after_step(len(losses), smoothed[-1])
        if len(losses) == steps or smoothed[-1] > WORSE * smoothed.min():
            raise _EndedError

    with suppress(_EndedError):
        for epoch in count(1):
            torch.manual_seed(derive(job.seed, *job.purpose, "torch", epoch))
            batches, prepare = epoch_batches(setting, epoch)
            train_epoch(
                net, batches, config=config, optimiser=optimiser, scaler=scaler, accumulate=setting.shape.accumulate,
                rates_of=lambda step: (float(lrs[step]), config.optimiser.momentum), average=lambda step: None,
                prepare=prepare, loss_of=setting.loss_of, device=device, precision=job.precision,
                first_step=len(losses), after_step=note,
            )
    found = np.array(losses)
    return RangeCurve(lrs[:len(losses)], found, smooth(found, steps=steps), steps)


def smooth(losses: np.ndarray, *, steps: int) -> np.ndarray:
    """Exponential mean of `losses (T,)` without the bias of its start: sum_i d^(t-i) x_i / sum_i d^(t-i) over i <= t.

    It remembers a tenth of `steps` (at least 10): d = 1 - 10 / steps. Source: Kingma & Ba 2015, section 3.
    """
    decay = 1 - 1 / (MEMORY * steps)
    total = lfilter([1 - decay], [1.0, -decay], losses)
    return total / (1 - decay ** np.arange(1, len(losses) + 1))


def suggest(curve: RangeCurve, *, where: str) -> Suggestion:
    """The rates that a curve suggests; raises UserError, naming `where` and the fix, where its loss never falls.

    The slope at a rate is a difference over a tenth of the steps, for a batch more or less must not decide.
    """
    span = max(1, round(SPAN * curve.steps))
    lowest = int(curve.smoothed.argmin()) if len(curve.smoothed) else 0
    if lowest <= 2 * span or curve.smoothed[lowest] > FALLEN * curve.smoothed[span]:
        raise UserError(f"{where}: the loss did not fall in {len(curve.lrs)} of {curve.steps} steps; fix: a lower "
                        "--from where it grew at once, a higher --to where it stayed")
    middle = np.arange(span, lowest - span + 1)
    smoothed, logs = curve.smoothed, np.log(curve.lrs)
    slopes = (smoothed[middle + span] - smoothed[middle - span]) / (logs[middle + span] - logs[middle - span])
    lr = float(curve.lrs[lowest])
    return Suggestion(float(curve.lrs[middle[slopes.argmin()]]), lr, lr / 10, lowest < curve.steps - 1)


class _EndedError(Exception):
    """Leaves the epoch: the test is over."""
