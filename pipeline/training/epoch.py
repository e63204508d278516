"""One pass over the training rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.config.model import ModelConfig
from pipeline.nets.net import Net
from pipeline.training.feed import Inputs
from pipeline.training.losses import Loss
from pipeline.training.optimiser import set_learning_rate
from pipeline.training.precision import autocast
from pipeline.training.prepare import Preparation
from pipeline.training.schedule import factor


@dataclass(frozen=True)
class EpochScores:
    """What an epoch measured on its own, augmented batches while the weights moved."""

    loss: float          # mean of the loss that is minimised: smoothed, weighted and of mixed images where those are on
    accuracy: float      # in [0, 1]: the target's largest class
    images: int
    lr: float            # of the last step


def train_epoch(
    net: Net, batches: Iterable[tuple[Inputs, np.ndarray]], *,
    config: ModelConfig, optimiser: torch.optim.Optimizer, average: Callable[[int], None],
    prepare: Preparation, loss_of: Loss, device: torch.device, precision: str, first_step: int, total_steps: int,
    after_step: Callable[[int, torch.Tensor], None],
) -> EpochScores:
    """Takes one optimiser step per batch, numbered from `first_step` of `total_steps`; changes `net` in place.

    `average(step)` follows each step, then `after_step(steps of this epoch so far, sum of their losses)`. Nothing
    here waits for a GPU, unless `after_step` reads the sum.
    """
    net.train()
    loss_sum = torch.zeros((), device=device)
    hits = torch.zeros((), dtype=torch.int64, device=device)
    rows, count, lr = 0, 0, 0.0
    for count, (inputs, labels) in enumerate(batches, start=1):
        step = first_step + count - 1
        lr = config.optimiser.lr * factor(step, total_steps, config.schedule)
        set_learning_rate(optimiser, lr)
        arguments, targets = prepare(inputs, labels)
        with autocast(precision, device):
            logits = net(*arguments)                                                                         # (B, C)
        loss = loss_of(logits.float(), targets)
        optimiser.zero_grad()
        loss.backward()
        if config.optimiser.clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), config.optimiser.clip, foreach=True)
        optimiser.step()
        average(step)
        loss_sum += loss.detach()
        hits += (logits.detach().argmax(dim=1) == targets.argmax(dim=1)).sum()
        rows += len(labels)
        after_step(count, loss_sum)
    return EpochScores(float(loss_sum) / count, int(hits) / rows, rows, lr)
