"""DenseNet-BC: every layer sees all feature maps before it, through a bottleneck; transitions compress by half.

stem small: conv 3x3 to 2 growth; full: conv 7x7 to 2 growth, stride 2 - bn relu - max pool 3x3, stride 2
- for each number in `blocks`: that many layers bn relu conv 1x1 (4 growth) bn relu conv 3x3 (growth), each joined to
its input; between blocks bn relu conv 1x1 (half of the channels) average pool 2 - bn relu - global pooling - head.

Source: Huang et al. 2017, "Densely connected convolutional networks", section 3 and table 1. densenet121 with the full
stem is torchvision's. densenet is for small images: blocks (16, 16, 16) with growth 12 are the paper's DenseNet-BC-100;
the default is shallower and wider, and its stem halves a canvas of 32 px or more, for speed.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.nets.init import he_init
from pipeline.nets.net import Count, Counts, Net, Share, require_canvas
from pipeline.nets.pooling import Pool, global_pool


@dataclass(frozen=True)
class Row:
    """One variant: new maps per layer, layers per block, and the canvas from which its stem is the full one."""

    growth: int
    blocks: tuple[int, ...]
    full_stem_from: float                                # px of canvas


VARIANTS = {
    "densenet": Row(16, (4, 6, 8), float("inf")),
    "densenet121": Row(32, (6, 12, 24, 16), 96),
}


def densenet(
    *,
    name: str,
    n_classes: int,
    channels: int,
    canvas: int,
    growth: Count | None = None,
    blocks: Counts | None = None,
    stem: Literal["small", "full"] | None = None,
    stem_stride: Count | None = None,
    dropout: Share = 0.0,
    pool: Pool = "average",
) -> Net:
    """DenseNet-BC with compression 0.5; `growth`, `blocks` and `stem` None are the variant's own.

    `stem_stride` is the small stem's: None is 1 below 32 px and 2 from there on. Raises UserError where the full stem
    is given one, or the canvas is too small.
    """
    row = VARIANTS[name]
    growth, blocks = growth or row.growth, blocks or row.blocks
    full = stem == "full" or (stem is None and canvas >= row.full_stem_from)
    if full and stem_stride is not None:
        raise UserError(f"net '{name}': options.stem_stride: {stem_stride} has no use, for the stem at canvas {canvas} "
                        "is full; fix: stem: small, or no stem_stride")
    stride = stem_stride or (1 if canvas < 32 else 2)
    require_canvas(canvas, at_least=(4 if full else stride) * 2 ** (len(blocks) - 1), net=name)
    width = 2 * growth
    layers = _full_stem(channels, width) if full else _small_stem(channels, width, stride)
    for block, depth in enumerate(blocks):
        if block:
            layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
        layers += [DenseLayer(width + i * growth, growth) for i in range(depth)]
        width += depth * growth
    trunk = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU(), global_pool(pool))       # (B, width)
    he_init(trunk)
    return Net(trunk, nn.Linear(width, n_classes), dropout=dropout)


class DenseLayer(nn.Module):
    """The input, and `growth` new maps of it, side by side."""

    def __init__(self, inner: int, growth: int) -> None:
        super().__init__()
        self.new = nn.Sequential(
            nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth), nn.ReLU(), nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inner, H, W)` to `(B, inner + growth, H, W)`."""
        return torch.cat([x, self.new(x)], dim=1)


def _small_stem(channels: int, width: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)]


def _full_stem(channels: int, width: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1)]
