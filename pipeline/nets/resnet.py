"""ResNet-18 with a stem for small images.

conv 3x3 `width` (stride 1, no pooling) - 4 stages of 2 basic blocks, `width` to 8 `width`, halved before stages 2 to 4
- global average - head. Basic block: relu(x + bn(conv(relu(bn(conv(x)))))), 1x1 projection where the shape changes.

Source: He et al. 2015, "Deep residual learning", sections 3.3 and 4.2 (the stem); He initialisation (2015, "Delving
deep"); zero last gamma (Goyal et al. 2017, section 5.1). At width 64 the stages are torchvision's.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.nets.net import Count, Net, Share


def resnet18(*, n_classes: int, channels: int, canvas: int, width: Count = 64, dropout: Share = 0.0) -> Net:
    """Small-stem ResNet-18 with 8 `width` features; any canvas."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    ]
    inner = width
    for stage in range(4):
        outer = width * 2**stage
        layers += [BasicBlock(inner, outer, stride=1 if stage == 0 else 2), BasicBlock(outer, outer)]
        inner = outer
    trunk = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())     # (B, 8 width)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, BasicBlock):
            nn.init.zeros_(module.norm2.weight)
    return Net(trunk, nn.Linear(inner, n_classes), dropout=dropout)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; at the start it is the shortcut alone."""

    def __init__(self, inner: int, outer: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inner != outer:
            self.shortcut = nn.Sequential(nn.Conv2d(inner, outer, 1, stride=stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inner, H, W)` to `(B, outer, H / stride, W / stride)`."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))
