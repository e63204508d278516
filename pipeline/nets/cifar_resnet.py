"""The residual nets for CIFAR-10: 6n + 2 layers, of three widths only.

conv 3x3 `width` - 3 stages of n basic blocks, `width` to 4 `width`, halved before stages 2 and 3 - global pooling -
head. Block: relu(x + bn conv3 relu bn conv3 x); where the shape changes, x is every second pixel of itself with zeros
for the new channels (option A), so that shortcuts learn nothing.

Source: He et al. 2015, "Deep residual learning", section 4.2 and table 6 (0.27M, 0.46M, 0.66M, 0.85M and 1.7M
parameters); He initialisation (2015, "Delving deep"); zero last gamma (Goyal et al. 2017, section 5.1) for the paper's
warm-up of the 110 layers; stochastic depth with linear decay (Huang et al. 2016, section 3).
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from pipeline.nets.init import he_init
from pipeline.nets.net import Count, Net, Share
from pipeline.nets.pooling import Pool, global_pool

DEPTHS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9, "resnet110": 18}    # n: blocks of each stage


def cifar_resnet(
    *,
    name: str,
    n_classes: int,
    channels: int,
    canvas: int,
    width: Count = 16,
    dropout: Share = 0.0,
    pool: Pool = "average",
    stochastic_depth: Share = 0.0,
) -> Net:
    """CIFAR ResNet with 4 `width` features; any canvas.

    `stochastic_depth` is the last block's chance to be skipped for an image in training (Huang et al. have 0.5 for 110
    layers); it falls linearly towards the first.
    """
    depth = DEPTHS[name]
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
    ]
    inner = width
    for index in range(3 * depth):
        outer = width * 2 ** (index // depth)
        layers.append(PlainShortcutBlock(inner, outer, skip=stochastic_depth * (index + 1) / (3 * depth)))
        inner = outer
    trunk = nn.Sequential(*layers, global_pool(pool))                         # (B, 4 width)
    he_init(trunk, mode="fan_out")
    for module in trunk.modules():
        if isinstance(module, PlainShortcutBlock):
            nn.init.zeros_(module.norm2.weight)
    return Net(trunk, nn.Linear(inner, n_classes), dropout=dropout)


class PlainShortcutBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters; halves the map where it adds channels."""

    def __init__(self, inner: int, outer: int, *, skip: float = 0.0) -> None:
        super().__init__()
        self.stride, self.new = (1, 0) if inner == outer else (2, outer - inner)
        self.conv1 = nn.Conv2d(inner, outer, 3, stride=self.stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outer)
        self.skip = StochasticDepth(skip, "row")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inner, H, W)` to `(B, outer, H / stride, W / stride)`."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.skip(self.norm2(self.conv2(y))) + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """`x`, or every second row and column of it with zeros behind its channels."""
        if not self.new:
            return x
        every_second = F.avg_pool2d(x, 1, stride=2)     # padding x[:, :, ::2, ::2] takes 2.3 times as long, on one core
        return F.pad(every_second, (0, 0, 0, 0, 0, self.new))                 # (B, outer, H / 2, W / 2)
