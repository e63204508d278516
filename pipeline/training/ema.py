"""Exponential moving average of a network's parameters and buffers."""

from collections.abc import Callable

import torch
from torch import nn


def make_averager(averaged: nn.Module, net: nn.Module, *, decay: float) -> Callable[[int], None]:
    """A function of the number of steps taken before (0-based) that moves `averaged` towards `net`, in place.

    `averaged <- d averaged + (1 - d) net` with `d = min(decay, (1 + step) / (10 + step))`, for parameters and
    floating-point buffers (batch norm's running statistics); integer buffers are copied.
    """
    ours, theirs = list(averaged.state_dict().values()), list(net.state_dict().values())
    pairs = list(zip(ours, theirs, strict=True))
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    integers = [(a, b) for a, b in pairs if not a.is_floating_point()]
    means, values = [a for a, _ in floats], [b for _, b in floats]

    def update(step: int) -> None:
        torch._foreach_lerp_(means, values, 1 - min(decay, (1 + step) / (10 + step)))
        for mean, value in integers:
            mean.copy_(value)

    return update
