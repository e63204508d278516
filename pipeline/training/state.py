"""The state of a fold between two epochs: all that the next epoch depends on, saved and restored whole."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.config.model import ModelConfig
from pipeline.nets.net import Net
from pipeline.training.averages import ema_share, make_mover, swa_share
from pipeline.training.checkpoint import fill, read_checkpoint, write_checkpoint
from pipeline.training.optimiser import make_optimiser
from pipeline.training.precision import make_scaler

SAVED_AS_IS = ("epoch", "best", "best_loss", "best_epoch", "drops", "low", "low_epoch", "curves", "timing")


@dataclass
class FoldState:
    """Networks and optimiser live on the fold's device; `curves` and `timing` have one row per epoch."""

    net: Net
    averaged: Net | None                         # in eval mode; None where no average is kept
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    after_step: Callable[[int], None]            # of all steps, 0-based: moves `averaged`, if it is exponential
    after_epoch: Callable[[int], None]           # 1-based: moves `averaged`, if it is even
    epoch: int = 0                               # epochs done
    best: dict[str, torch.Tensor] | None = None  # weights of the epoch with the lowest holdout loss
    best_loss: float = float("inf")
    best_epoch: int = 0
    drops: int = 0                               # of the learning rate, schedule plateau
    low: float = float("inf")                    # lowest loss that the plateau is measured from
    low_epoch: int = 0                           # its epoch, or that of the last drop
    curves: list[dict[str, Any]] = field(default_factory=list)
    timing: list[dict[str, Any]] = field(default_factory=list)

    @property
    def measured(self) -> Net:
        """The network that is measured and kept: the average where there is one, in eval mode."""
        return (self.averaged or self.net).eval()


def start(net: Net, config: ModelConfig, *, precision: str, device: torch.device) -> FoldState:
    """The state before the first epoch; `net` is on its device and channels_last."""
    optimiser, scaler = make_optimiser(net, config.optimiser), make_scaler(precision, device)
    if config.weights == "last" or (config.weights != "swa" and config.ema is None):
        return FoldState(net, None, optimiser, scaler, lambda step: None, lambda epoch: None)
    averaged = copy.deepcopy(net).requires_grad_(False).eval()
    move = make_mover(averaged, net)
    if config.weights == "swa":
        last = config.swa or 1
        return FoldState(net, averaged, optimiser, scaler, lambda step: None,
                         lambda epoch: move(swa_share(epoch, epochs=config.epochs, last=last)))
    decay = config.ema or 0.0
    return FoldState(net, averaged, optimiser, scaler, lambda step: move(ema_share(step, decay=decay)),
                     lambda epoch: None)


def note_holdout(state: FoldState, config: ModelConfig, loss: float) -> None:
    """Remembers the epoch, and its weights if the best are kept, when its holdout loss is progress."""
    least = config.early_stopping.min_delta if config.early_stopping else 0.0
    if loss < state.best_loss - least:
        state.best_loss, state.best_epoch = loss, state.epoch
        if config.weights == "best":
            state.best = {name: tensor.cpu().clone() for name, tensor in state.measured.state_dict().items()}


def note_plateau(state: FoldState, config: ModelConfig, loss: float) -> None:
    """Counts a drop of the learning rate when `loss` has made no progress for `schedule.patience` epochs."""
    if loss < state.low:
        state.low, state.low_epoch = loss, state.epoch
    elif config.schedule.name == "plateau" and state.epoch - state.low_epoch >= config.schedule.patience:
        state.drops, state.low_epoch = state.drops + 1, state.epoch


def is_over(state: FoldState, config: ModelConfig) -> bool:
    """True after the last epoch, or after `patience` epochs without progress of the holdout loss."""
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
        "scaler": state.scaler.state_dict(),
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
    state.scaler.load_state_dict(saved["scaler"])
    for name in SAVED_AS_IS:
        setattr(state, name, saved[name])
