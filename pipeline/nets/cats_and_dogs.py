"""The cats-and-dogs net: three convolutions, three poolings, one dense layer.

conv 32 @ 3x3 - pool 2 - conv 32 @ 3x3 - pool 2 - conv 64 @ 3x3 - pool 2 - dense 64 - dropout - head; ReLU throughout,
no padding.

Source: Chollet 2016, "Building powerful image classification models using very little data" (the Keras blog), the
"small convnet": 1,212,513 parameters for one output at 150 px. Glorot's uniform initialisation and zero biases, as
Keras has them.
"""

from torch import nn

from pipeline.nets.net import Net, Share, require_canvas


def cats_and_dogs(*, n_classes: int, channels: int, canvas: int, dropout: Share = 0.5) -> Net:
    """Three-convolution net with 64 features; canvas of at least 22 px."""
    require_canvas(canvas, at_least=22, net="cats_and_dogs")
    layers: list[nn.Module] = []
    inner, side = channels, canvas
    for outer in (32, 32, 64):
        layers += [nn.Conv2d(inner, outer, 3), nn.ReLU(), nn.MaxPool2d(2)]
        inner, side = outer, (side - 2) // 2
    layers += [nn.Flatten(), nn.Linear(inner * side * side, 64), nn.ReLU()]   # (B, 64)
    trunk = nn.Sequential(*layers)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return Net(trunk, nn.Linear(64, n_classes), dropout=dropout)
