"""What is trained on top of a frozen network's features."""

from torch import nn

from pipeline.config.model import HeadConfig
from pipeline.nets.net import Net


def head_net(config: HeadConfig, *, n_features: int, n_classes: int) -> Net:
    """A net whose input is features `(B, n_features)`, standardised by running statistics: linear, or dense and linear.

    The penultimate features are the standardised ones, or the hidden layer's ReLUs.
    """
    layers: list[nn.Module] = [nn.BatchNorm1d(n_features, affine=False)]
    width = n_features
    if config.name == "dense":
        layers += [nn.Linear(n_features, config.width), nn.ReLU()]
        width = config.width
    return Net(nn.Sequential(*layers), nn.Linear(width, n_classes), dropout=config.dropout)
