"""Initial weights that several families share."""

from typing import Literal

from torch import nn


def he_init(trunk: nn.Module, *, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    """Every convolution's weights from N(0, 2 / fan), its bias zero, in place.

    Source: He et al. 2015, "Delving deep into rectifiers", section 2.2.
    """
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
