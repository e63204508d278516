"""LeNet-5: two convolutions, two poolings, two dense layers.

conv 6 @ 5x5 (padded by 2) - pool 2 - conv 16 @ 5x5 - pool 2 - dense 120 - dense 84 - head.

Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition", section II.B. With the padding,
a 28 px canvas is the paper's 32 px input with its blank border (61,706 parameters for 10 classes). ReLU for the scaled
tanh, maximum for the trainable average pooling, a full connection table in the second convolution, and a linear head
for the Gaussian units: what "LeNet-5" has come to mean.
"""

from torch import nn

from pipeline.nets.net import Net, Share, require_canvas


def lenet5(*, n_classes: int, channels: int, canvas: int, dropout: Share = 0.0) -> Net:
    """LeNet-5 with 84 features; canvas of at least 12 px."""
    require_canvas(canvas, at_least=12, net="lenet5")
    side = (canvas // 2 - 4) // 2
    trunk = nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),     # (B, 6, canvas / 2, canvas / 2)
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),                      # (B, 16, side, side)
        nn.Flatten(), nn.Linear(16 * side * side, 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(),                                        # (B, 84)
    )
    return Net(trunk, nn.Linear(84, n_classes), dropout=dropout)
