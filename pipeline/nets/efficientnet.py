"""EfficientNetV2, and two smaller variants of it for images of 32 to 128 px.

conv 3x3 to `stem` - stages of fused (early) or depthwise (late) inverted bottlenecks - conv 1x1 to `features` - global
pooling - head. Every convolution is followed by batch norm, and by SiLU unless it is a block's last.
Fused: conv 3x3 to r c - conv 1x1 to c' (r = 1: conv 3x3 to c' alone). Depthwise: conv 1x1 to r c - depthwise 3x3 -
squeeze and excitation over c / 4 - conv 1x1 to c'. c and c' are a block's channels before and after; its input is added
where it has the shape of the output. The first block of a stage has its stride.

Source: Tan and Le 2021, "EfficientNetV2", sections 3.2 and 3.3 and table 4; squeeze and excitation (Hu et al. 2018,
section 3); He initialisation (2015, "Delving deep"); stochastic depth with linear decay (Huang et al. 2016, section 3).
efficientnet_v2_s is torchvision's where its stem has stride 2; the other rows are ours.

Chosen over ConvNeXt because 7x7 depthwise convolutions are slow on a CPU; `benchmarks/zoo.py` measures these.
"""

import math
from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from pipeline.nets.init import he_init
from pipeline.nets.net import Count, Net, Share
from pipeline.nets.pooling import Pool, global_pool

LAST_SIDE = 3       # px: the stem halves the canvas where the last map keeps this


@dataclass(frozen=True)
class Stage:
    """`depth` blocks to `outer` channels that widen `ratio` times inside; the first has the stride."""

    fused: bool
    ratio: int
    stride: int
    outer: int
    depth: int


@dataclass(frozen=True)
class Row:
    """One variant: channels of its stem, stages, and features."""

    stem: int
    stages: tuple[Stage, ...]
    features: int


VARIANTS = {
    "efficientnet_atto": Row(16, (
        Stage(True, 1, 1, 16, 1), Stage(True, 4, 2, 32, 2), Stage(True, 4, 2, 48, 2),
        Stage(False, 4, 2, 96, 4), Stage(False, 4, 1, 160, 4),
    ), 512),
    "efficientnet_pico": Row(24, (
        Stage(True, 1, 1, 24, 1), Stage(True, 4, 2, 48, 3), Stage(True, 4, 2, 64, 3),
        Stage(False, 4, 2, 128, 5), Stage(False, 6, 1, 160, 7),
    ), 768),
    "efficientnet_v2_s": Row(24, (
        Stage(True, 1, 1, 24, 2), Stage(True, 4, 2, 48, 4), Stage(True, 4, 2, 64, 4),
        Stage(False, 4, 2, 128, 6), Stage(False, 6, 1, 160, 9), Stage(False, 6, 2, 256, 15),
    ), 1280),
}


def efficientnet(
    *,
    name: str,
    n_classes: int,
    channels: int,
    canvas: int,
    width: Count | None = None,
    dropout: Share = 0.0,
    stem_stride: Count | None = None,
    pool: Pool = "average",
    stochastic_depth: Share = 0.0,
) -> Net:
    """EfficientNetV2; any canvas.

    `width` is the stem's channels: all others, the features among them, keep their proportion to it, as multiples of 8.
    `stem_stride` None is 2 where the last map keeps 3 px (from 48 px, efficientnet_v2_s from 96 px), else 1.
    `stochastic_depth` is the last block's chance to be skipped for an image in training; it falls linearly towards
    the first.
    """
    row = VARIANTS[name]
    blocks = [(stage, first) for stage in row.stages for first in [True] + [False] * (stage.depth - 1)]
    stride = stem_stride or (2 if canvas >= 2 * LAST_SIDE * math.prod(stage.stride for stage in row.stages) else 1)
    inner = _scaled(row.stem, row, width)
    layers = _convolution(channels, inner, 3, stride=stride)
    for index, (stage, first) in enumerate(blocks, start=1):
        outer = _scaled(stage.outer, row, width)
        layers.append(InvertedBottleneck(
            inner, outer, ratio=stage.ratio, stride=stage.stride if first else 1, fused=stage.fused,
            skip=stochastic_depth * index / len(blocks),
        ))
        inner = outer
    features = _scaled(row.features, row, width)
    trunk = nn.Sequential(*layers, *_convolution(inner, features, 1), global_pool(pool))      # (B, features)
    he_init(trunk)
    return Net(trunk, nn.Linear(features, n_classes), dropout=dropout)


class InvertedBottleneck(nn.Module):
    """A block that is wider inside than outside, with a shortcut where the shape stays."""

    def __init__(
        self, inner: int, outer: int, *, ratio: int, stride: int, fused: bool, skip: float = 0.0
    ) -> None:
        super().__init__()
        middle = inner * ratio
        if fused and ratio == 1:
            layers = _convolution(inner, outer, 3, stride=stride)
        elif fused:
            layers = _convolution(inner, middle, 3, stride=stride) + _convolution(middle, outer, 1)[:-1]
        else:
            layers = [
                *_convolution(inner, middle, 1), *_convolution(middle, middle, 3, stride=stride, groups=middle),
                SqueezeExcitation(middle, max(1, inner // 4)), *_convolution(middle, outer, 1)[:-1],
            ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inner == outer
        self.skip = StochasticDepth(skip, "row")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inner, H, W)` to `(B, outer, H / stride, W / stride)`."""
        y: Tensor = self.layers(x)
        return x + self.skip(y) if self.residual else y


class SqueezeExcitation(nn.Module):
    """Every channel times a number in (0, 1) that all channels' means decide, through `squeezed` of them."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1), nn.SiLU(), nn.Conv2d(squeezed, channels, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same."""
        return x * self.layers(x.mean(dim=(2, 3), keepdim=True))


def _convolution(inner: int, outer: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inner, outer, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(outer, eps=1e-3), nn.SiLU()]


def _scaled(channels: int, row: Row, width: int | None) -> int:
    return channels if width is None else max(8, round(channels * width / row.stem / 8) * 8)
