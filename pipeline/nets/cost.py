"""What a net costs: parameters, and floating-point operations of one image."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.nets.registry import build


def parameters(net: nn.Module) -> int:
    """Number of learnt numbers, buffers such as running means not counted."""
    return sum(p.numel() for p in net.parameters())


def cost(net: str, *, options: dict[str, object], n_classes: int, channels: int, canvas: int) -> tuple[int, int]:
    """Parameters, and FLOPs of the forward pass of one image, of a net that is built without memory.

    A multiplication and an addition are two FLOPs; convolutions and matrix products count, nothing else does.
    """
    with torch.device("meta"), torch.no_grad():
        module = build(net, options=options, n_classes=n_classes, channels=channels, canvas=canvas).eval()
        with FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, channels, canvas, canvas))
    return parameters(module), counter.get_total_flops()
