"""Stems: fitting the first convolution of a ready-made net to the channels and the size of the images."""

import math
from typing import cast

from torch import Tensor, nn


def fit_channels(weight: Tensor, channels: int) -> Tensor:
    """A first kernel `(O, C, h, w)` for images of `channels` channels, `(O, channels, h, w)`.

    Channels that are copies of each other give exactly what the source's copies gave: a grey image what its RGB copy
    gave (the kernel's sum over RGB), equal scales stacked what one scale gave (the kernel repeated and divided).
    """
    shared = math.gcd(weight.shape[1], channels)
    copies = channels // shared
    each = weight.unflatten(1, (-1, shared)).sum(dim=1)          # (O, shared, h, w)
    return each.repeat(1, copies, 1, 1) / copies                 # (O, channels, h, w)


def first_conv(model: nn.Module) -> tuple[str, nn.Conv2d] | None:
    """Name and module of the first convolution in order of registration; None where there is none."""
    return next(((path, m) for path, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)


def fit_stem(model: nn.Module, *, channels: int, small: bool) -> None:
    """Replaces the first convolution where it does not fit, with He initialisation.

    `small` keeps the resolution: a ResNet's stem becomes one 3x3 convolution without pooling, any other net's first
    convolution gets stride 1. Raises ValueError where the net has no convolution to fit.
    """
    found = first_conv(model)
    if found is None:
        raise ValueError("it has no convolution to fit to the images")
    path, old = found
    if channels == old.in_channels and not small:
        return
    resnet = small and path == "conv1" and hasattr(model, "maxpool")
    if resnet:
        model.maxpool = nn.Identity()
    new = nn.Conv2d(
        channels,
        old.out_channels,
        kernel_size=3 if resnet else cast("tuple[int, int]", old.kernel_size),
        stride=1 if small else cast("tuple[int, int]", old.stride),
        padding=1 if resnet else cast("tuple[int, int]", old.padding),
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    model.set_submodule(path, new)
