"""ResNet-18, 34, 50 and 101, with torchvision's stem or one for small images.

stem small: conv 3x3 `width`, stride `stem_stride`; full: conv 7x7 `width`, stride 2 - max pool 3x3, stride 2
- 4 stages of basic (18, 34) or bottleneck (50, 101) blocks, inner channels `width` to 8 `width`, halved before stages
2 to 4 - global pooling - head.
Basic: relu(x + bn conv3 relu bn conv3 x). Bottleneck: relu(x + bn conv1 relu bn conv3 relu bn conv1 x), with four times
the channels outside and the stride in its 3x3 convolution. 1x1 projection of x where the shape changes.

Source: He et al. 2015, "Deep residual learning", table 1 and section 4.2 (the small stem); the stride's place as in
torchvision; He initialisation (2015, "Delving deep"); zero last gamma (Goyal et al. 2017, section 5.1); stochastic
depth with linear decay (Huang et al. 2016, section 3). At width 64 with the full stem the net is torchvision's.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from pipeline.errors import UserError
from pipeline.nets.init import he_init
from pipeline.nets.net import Count, Net, Share
from pipeline.nets.pooling import Pool, global_pool

FULL_STEM_FROM = 96     # px of canvas


@dataclass(frozen=True)
class Row:
    """One variant: its block, and how many of them each stage has."""

    block: Literal["basic", "bottleneck"]
    depths: tuple[int, int, int, int]


VARIANTS = {
    "resnet18": Row("basic", (2, 2, 2, 2)),
    "resnet34": Row("basic", (3, 4, 6, 3)),
    "resnet50": Row("bottleneck", (3, 4, 6, 3)),
    "resnet101": Row("bottleneck", (3, 4, 23, 3)),
}


def resnet(
    *,
    name: str,
    n_classes: int,
    channels: int,
    canvas: int,
    width: Count = 64,
    dropout: Share = 0.0,
    stem: Literal["small", "full"] | None = None,
    stem_stride: Count | None = None,
    pool: Pool = "average",
    stochastic_depth: Share = 0.0,
) -> Net:
    """ResNet with 8 `width` (basic) or 32 `width` (bottleneck) features; any canvas.

    `stem` None is small below 96 px and full from there on; `stem_stride` None is 1. `stochastic_depth` is the last
    block's chance to be skipped for an image in training; it falls linearly towards the first. Raises UserError where
    the full stem is given a stride.
    """
    row = VARIANTS[name]
    block = BasicBlock if row.block == "basic" else Bottleneck
    full = stem == "full" or (stem is None and canvas >= FULL_STEM_FROM)
    if full and stem_stride is not None:
        raise UserError(f"net '{name}': options.stem_stride: {stem_stride} has no use, for the stem at canvas {canvas} "
                        "is full; fix: stem: small, or no stem_stride")
    layers = _full_stem(channels, width) if full else _small_stem(channels, width, stem_stride or 1)
    inner, index = width, 0
    for stage, depth in enumerate(row.depths):
        outer = width * 2**stage * block.expansion
        for first in [True] + [False] * (depth - 1):
            index += 1
            skip = stochastic_depth * index / sum(row.depths)
            layers.append(block(inner, outer, stride=2 if first and stage else 1, skip=skip))
            inner = outer
    trunk = nn.Sequential(*layers, global_pool(pool))                         # (B, inner)
    he_init(trunk, mode="fan_out")
    for module in trunk.modules():
        if isinstance(module, BasicBlock | Bottleneck):
            nn.init.zeros_(module.last_norm.weight)
    return Net(trunk, nn.Linear(inner, n_classes), dropout=dropout)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; at the start it is the shortcut alone."""

    expansion = 1

    def __init__(self, inner: int, outer: int, *, stride: int = 1, skip: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False)
        self.last_norm = nn.BatchNorm2d(outer)
        self.shortcut = _shortcut(inner, outer, stride)
        self.skip = StochasticDepth(skip, "row")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inner, H, W)` to `(B, outer, H / stride, W / stride)`."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.skip(self.last_norm(self.conv2(y))) + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the first two with a quarter of the channels, and a shortcut."""

    expansion = 4

    def __init__(self, inner: int, outer: int, *, stride: int = 1, skip: float = 0.0) -> None:
        super().__init__()
        middle = outer // self.expansion
        self.conv1 = nn.Conv2d(inner, middle, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outer, 1, bias=False)
        self.last_norm = nn.BatchNorm2d(outer)
        self.shortcut = _shortcut(inner, outer, stride)
        self.skip = StochasticDepth(skip, "row")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inner, H, W)` to `(B, outer, H / stride, W / stride)`."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(self.skip(self.last_norm(self.conv3(y))) + self.shortcut(x))


def _small_stem(channels: int, width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]


def _full_stem(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1)]


def _shortcut(inner: int, outer: int, stride: int) -> nn.Module:
    if stride == 1 and inner == outer:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inner, outer, 1, stride=stride, bias=False), nn.BatchNorm2d(outer))
