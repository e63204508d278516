"""One pass over the training rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.config.model import ModelConfig
from pipeline.training.feed import Inputs
from pipeline.training.losses import Loss
from pipeline.training.optimiser import set_rates
from pipeline.training.precision import autocast
from pipeline.training.prepare import Preparation


@dataclass(frozen=True)
class EpochScores:
    """What an epoch measured on its own, augmented batches while the weights moved."""

    loss: float          # mean of the loss that is minimised: smoothed, weighted and of mixed images where those are on
    accuracy: float      # in [0, 1]: the target's largest class
    images: int
    lr: float            # of the last step


def train_epoch(
    net: nn.Module, batches: Iterable[tuple[Inputs, np.ndarray]], *,
    config: ModelConfig, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler, accumulate: int,
    rates_of: Callable[[int], tuple[float, float]], average: Callable[[int], None], prepare: Preparation,
    loss_of: Loss, device: torch.device, precision: str, first_step: int,
    after_step: Callable[[int, torch.Tensor], None],
) -> EpochScores:
    """Takes one optimiser step per `accumulate` batches, numbered from `first_step`; changes `net` in place.

    `net` may be compiled. `rates_of(step)` is learning rate and momentum. `average(step)` follows each step, then
    `after_step(steps of this epoch so far, sum of their losses)`. Nothing here waits for a GPU, unless `after_step`
    reads the sum.
    """
    net.train()
    loss_sum = torch.zeros((), device=device)
    hits = torch.zeros((), dtype=torch.int64, device=device)
    images, count, lr = 0, 0, 0.0
    for index, (inputs, rows) in enumerate(batches):
        count, part = divmod(index, accumulate)
        arguments, targets = prepare(inputs, rows)
        with autocast(precision, device):
            logits = net(*arguments)                                                                         # (B, C)
        loss = loss_of(logits.float(), targets) / accumulate
        if part == 0:
            optimiser.zero_grad()
        scaler.scale(loss).backward()
        loss_sum += loss.detach()
        hits += (logits.detach().argmax(dim=1) == targets.argmax(dim=1)).sum()
        images += len(rows)
        if part < accumulate - 1:
            continue
        lr, momentum = rates_of(first_step + count)
        set_rates(optimiser, lr=lr, momentum=momentum)
        if config.optimiser.clip is not None:
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(net.parameters(), config.optimiser.clip, foreach=True)
        scaler.step(optimiser)
        scaler.update()
        average(first_step + count)
        after_step(count + 1, loss_sum)
    return EpochScores(float(loss_sum) / (count + 1), int(hits) / images, images, lr)
