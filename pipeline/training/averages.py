"""Averages of a network's weights along its training: exponential (EMA) or even over the last epochs (SWA)."""

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.nets.net import Net


def make_mover(averaged: nn.Module, net: nn.Module) -> Callable[[float], None]:
    """A function of a share s in [0, 1] that moves `averaged` towards `net`, in place: a <- (1 - s) a + s net.

    Parameters and floating-point buffers (batch norm's running statistics) move; integer buffers are copied.
    """
    ours, theirs = list(averaged.state_dict().values()), list(net.state_dict().values())
    pairs = list(zip(ours, theirs, strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    integers = [(a, b) for a, b in pairs if not a.is_floating_point()]
    means, values = [a for a, _ in floats], [b for _, b in floats]

    def move(share: float) -> None:
        torch._foreach_lerp_(means, values, share)
        for mean, value in integers:
            mean.copy_(value)

    return move


def ema_share(step: int, *, decay: float) -> float:
    """How far the exponential average moves after `step` (0-based): 1 - min(decay, (1 + step) / (10 + step))."""
    return 1 - min(decay, (1 + step) / (10 + step))


def swa_share(epoch: int, *, epochs: int, last: int) -> float:
    """How far the even average over the `last` of `epochs` moves after `epoch` (1-based): 1, then 1/2, 1/3, ...

    Before those epochs it is 1: the average is the network. Source: Izmailov et al. 2018, "Averaging weights leads to
    wider optima", algorithm 1, one model per epoch.
    """
    return 1 / max(1, epoch - max(0, epochs - last))


def refresh_norms(net: Net, batches: Iterable[tuple[torch.Tensor, ...]]) -> None:
    """Measures the running statistics of batch norm anew, as plain means over `batches` of the network's arguments.

    Those of an average of weights are no average of statistics (Izmailov et al. 2018, section 3.2). Nothing else is in
    training mode, and gradients are off. Frozen layers, and a network without batch norm, are left alone.
    """
    net.train()
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm) and module.training]
    net.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None                    # a cumulative mean instead of an exponential one
        norm.train()
    with torch.no_grad():
        for arguments in batches:
            net(*arguments)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    net.eval()
