"""The two baselines that any convolution has to beat: a linear model and one hidden layer, both on raw pixels."""

from torch import nn

from pipeline.nets.net import Count, Net, Share


def logistic_regression(*, n_classes: int, channels: int, canvas: int) -> Net:
    """Multinomial logistic regression; the features are the pixels."""
    return Net(nn.Flatten(), nn.Linear(channels * canvas * canvas, n_classes))


def mlp(*, n_classes: int, channels: int, canvas: int, width: Count = 1024, dropout: Share = 0.0) -> Net:
    """One hidden layer of `width` ReLUs, which are the features."""
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(channels * canvas * canvas, width), nn.ReLU())
    return Net(trunk, nn.Linear(width, n_classes), dropout=dropout)
