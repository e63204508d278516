"""Nesterov's SGD or AdamW, with weight decay on the weights of layers only."""

import torch
from torch import nn

from pipeline.config.model import OptimiserConfig

BETA_2 = 0.999          # AdamW's second moment


def make_optimiser(net: nn.Module, config: OptimiserConfig) -> torch.optim.Optimizer:
    """An optimiser with two groups: parameters of two or more dimensions decay; biases and norms (one) do not."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, BETA_2), fused=True)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, fused=True)


def set_rates(optimiser: torch.optim.Optimizer, *, lr: float, momentum: float) -> None:
    """Sets the learning rate and the momentum (AdamW: its first beta) of every group."""
    for group in optimiser.param_groups:
        group["lr"] = lr
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum
