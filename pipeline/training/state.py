"""The state of a fold between two epochs: all that the next epoch depends on, saved and restored whole."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.config.model import ModelConfig
from pipeline.nets.net import Net
from pipeline.training.checkpoint import fill, read_checkpoint, write_checkpoint
from pipeline.training.ema import make_averager
from pipeline.training.optimiser import make_optimiser

SAVED_AS_IS = ("epoch", "best", "best_loss", "best_epoch", "curves", "timing")


@dataclass
class FoldState:
    """Networks and optimiser live on the fold's device; `curves` and `timing` have one row per epoch."""

    net: Net
    averaged: Net | None                         # in eval mode; None where no average is kept
    optimiser: torch.optim.Optimizer
    average: Callable[[int], None]               # moves `averaged` after a step
    epoch: int = 0                               # epochs done
    best: dict[str, torch.Tensor] | None = None  # weights of the epoch with the lowest holdout loss
    best_loss: float = float("inf")
    best_epoch: int = 0
    curves: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def measured(self) -> Net:
        """The network that is measured and kept: the average where there is one, in eval mode."""
        return (self.averaged or self.net).eval()


def start(net: Net, config: ModelConfig) -> FoldState:
    """The state before the first epoch; `net` is on its device and channels_last."""
    optimiser = make_optimiser(net, config.optimiser)
    if config.ema is None or config.weights == "last":
        return FoldState(net, None, optimiser, lambda step: None)
    averaged = copy.deepcopy(net).requires_grad_(False).eval()
    return FoldState(net, averaged, optimiser, make_averager(averaged, net, decay=config.ema))


def note_holdout(state: FoldState, config: ModelConfig, loss: float) -> None:
    """Remembers the epoch, and its weights if the best are kept, when its holdout loss is the lowest so far."""
    if loss < state.best_loss:
        state.best_loss, state.best_epoch = loss, state.epoch
        if config.weights == "best":
            state.best = {name: tensor.cpu().clone() for name, tensor in state.measured.state_dict().items()}


def is_over(state: FoldState, config: ModelConfig) -> bool:
    """True after the last epoch, or after `patience` epochs without a better holdout loss."""
    stopping = config.early_stopping
    stale = state.epoch - state.best_epoch
    return state.epoch >= config.epochs or (stopping is not None and stale >= stopping.patience)


def kept_net(state: FoldState) -> Net:
    """The network that is saved: the measured one, with the best epoch's weights where those are kept."""
    net = state.measured
    if state.best is not None:
        fill(net, state.best)
    return net


def save_state(path: Path, state: FoldState) -> None:
    """Writes a checkpoint, atomically."""
    write_checkpoint(path, {
        "net": state.net.state_dict(),
        "averaged": state.averaged.state_dict() if state.averaged else None,
        "optimiser": state.optimiser.state_dict(),
        **{name: getattr(state, name) for name in SAVED_AS_IS},
    })


def restore(path: Path, state: FoldState) -> None:
    """Brings a fresh `state` to where the checkpoint was; leaves it alone where there is no (readable) one."""
    saved = read_checkpoint(path)
    if saved is None:
        return
    fill(state.net, saved["net"])
    if state.averaged:
        fill(state.averaged, saved["averaged"])
    state.optimiser.load_state_dict(saved["optimiser"])
    for name in SAVED_AS_IS:
        setattr(state, name, saved[name])
