"""Inception v1 (GoogLeNet) and v3: blocks whose branches look at several scales side by side, joined by channel.

A unit is conv - bn - relu. v1: unit 64 @ 7x7 / 2 - max pool / 2 - unit 64 @ 1x1 - unit 192 @ 3x3 - max pool / 2 - 2
blocks - max pool / 2 - 5 blocks - max pool / 2 - 2 blocks (1024 channels) - global pool - dropout - head.
v3: unit 32 @ 3x3 / 2 - unit 32 @ 3x3 - unit 64 @ 3x3 - max pool / 2 - unit 80 @ 1x1 - unit 192 @ 3x3 - max pool / 2 -
3 blocks A (5x5, two 3x3) - reduction - 4 blocks C (7x7 as 1x7 and 7x1) - reduction - 2 blocks E (2048 channels) -
global pool - dropout - head.
Small stem: the first unit is 3x3, with stride 1 below 64 px and 2 from there on, and no pool comes before the 1x1 unit
(v3's are padded, too), so that 32 px and 64 px enter the blocks as 16 (v3: 15) and leave them as 4 (v3: 3).

Source: Szegedy et al. 2014, "Going deeper with convolutions", table 1; Szegedy et al. 2015, "Rethinking the Inception
architecture", section 6 and figures 5 to 7. Without auxiliary heads both are torchvision's, in parameters and outputs:
v1 therefore has batch normalisation, and 3x3 where the paper's third branch has 5x5, as in every published set of
weights. He initialisation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pipeline.nets.init import he_init
from pipeline.nets.net import Count, Net, Share, require_canvas
from pipeline.nets.pooling import Pool, global_pool


@dataclass(frozen=True)
class Conv:
    """A unit with this many channels at width 64; padded, it keeps the side (over the stride)."""

    channels: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1
    padded: bool = True


@dataclass(frozen=True)
class Split:
    """Branches that see the same map; their channels are joined."""

    branches: tuple["Parts", ...]


Parts = tuple[Conv | Split | Callable[[], nn.Module], ...]      # a callable makes a pool


@dataclass(frozen=True)
class Variant:
    """One net of the family: what comes before the blocks, for a stride in the case of the small stem, and the blocks.

    Of a smaller canvas than `at_least` (with the small stem `small_at_least`) nothing would be left.
    """

    stem: Parts
    small_stem: Callable[[int], Parts]
    blocks: Parts
    at_least: int
    small_at_least: int


HALVE = partial(nn.MaxPool2d, 3, stride=2)                           # v3: whole windows only
HALVE_UP = partial(nn.MaxPool2d, 3, stride=2, ceil_mode=True)        # v1: rounds up
HALVE_LAST = partial(nn.MaxPool2d, 2, stride=2, ceil_mode=True)
AVERAGE = partial(nn.AvgPool2d, 3, stride=1, padding=1)
MAXIMUM = partial(nn.MaxPool2d, 3, stride=1, padding=1)


def inception(
    *,
    name: str,
    n_classes: int,
    channels: int,
    canvas: int,
    small_stem: bool | None = None,
    width: Count = 64,
    pool: Pool = "average",
    dropout: Share = 0.2,
) -> Net:
    """Inception v1 or v3; `small_stem` None is on below 128 px, `width` scales every layer by width / 64.

    Scaled channels are rounded up to a multiple of 8. The smallest canvas is 15 px (v1) or 75 (v3), with the small stem
    4 or 15.
    """
    variant = VARIANTS[name]
    small = canvas < 128 if small_stem is None else small_stem
    require_canvas(canvas, at_least=variant.small_at_least if small else variant.at_least, net=name)
    stem = variant.small_stem(1 if canvas < 64 else 2) if small else variant.stem
    body, features = assemble(stem + variant.blocks, channels, width=width)
    trunk = nn.Sequential(body, global_pool(pool))                            # (B, features)
    he_init(trunk)
    return Net(trunk, nn.Linear(features, n_classes), dropout=dropout)


def assemble(parts: Parts, inner: int, *, width: int) -> tuple[nn.Sequential, int]:
    """The parts one after another as modules, and the channels that come out of them for `inner` that go in."""
    modules: list[nn.Module] = []
    for part in parts:
        if isinstance(part, Conv):
            outer = -(-part.channels * width // 512) * 8
            modules.append(unit(part, inner, outer))
            inner = outer
        elif isinstance(part, Split):
            branches, widths = zip(*(assemble(b, inner, width=width) for b in part.branches), strict=True)
            modules.append(Branches(branches))
            inner = sum(widths)
        else:
            modules.append(part())
    return nn.Sequential(*modules), inner


def unit(conv: Conv, inner: int, outer: int) -> nn.Sequential:
    """Convolution, batch normalisation and ReLU."""
    kernel = (conv.kernel, conv.kernel) if isinstance(conv.kernel, int) else conv.kernel
    padding = (kernel[0] // 2, kernel[1] // 2) if conv.padded else 0
    return nn.Sequential(
        nn.Conv2d(inner, outer, kernel, stride=conv.stride, padding=padding, bias=False),
        nn.BatchNorm2d(outer, eps=1e-3), nn.ReLU(),
    )


class Branches(nn.Module):
    """What every branch makes of the input, side by side."""

    def __init__(self, branches: tuple[nn.Module, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, sum of the branches' channels, H', W')`."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def v1_block(one: int, *, three: tuple[int, int], five: tuple[int, int], pooled: int) -> Split:
    """1x1; 1x1 and 3x3; 1x1 and "5x5"; pool and 1x1. Going deeper, figure 2b and a row of table 1."""
    return Split((
        (Conv(one),), (Conv(three[0]), Conv(three[1], 3)), (Conv(five[0]), Conv(five[1], 3)), (MAXIMUM, Conv(pooled)),
    ))


def v3_a(pooled: int) -> Split:
    """Rethinking, figure 5, with the 5x5 that it left in the other branch."""
    return Split((
        (Conv(64),), (Conv(48), Conv(64, 5)), (Conv(64), Conv(96, 3), Conv(96, 3)), (AVERAGE, Conv(pooled)),
    ))


def v3_c(c: int) -> Split:
    """Rethinking, figure 6: 7x7 in two steps, once and twice, through `c` channels."""
    return Split((
        (Conv(192),),
        (Conv(c), Conv(c, (1, 7)), Conv(192, (7, 1))),
        (Conv(c), Conv(c, (7, 1)), Conv(c, (1, 7)), Conv(c, (7, 1)), Conv(192, (1, 7))),
        (AVERAGE, Conv(192)),
    ))


V3_REDUCE_A = Split(((Conv(384, 3, 2, padded=False),), (Conv(64), Conv(96, 3), Conv(96, 3, 2, padded=False)), (HALVE,)))
V3_REDUCE_C = Split((
    (Conv(192), Conv(320, 3, 2, padded=False)),
    (Conv(192), Conv(192, (1, 7)), Conv(192, (7, 1)), Conv(192, 3, 2, padded=False)),
    (HALVE,),
))
V3_FAN = Split(((Conv(384, (1, 3)),), (Conv(384, (3, 1)),)))
V3_E = Split(((Conv(320),), (Conv(384), V3_FAN), (Conv(448), Conv(384, 3), V3_FAN), (AVERAGE, Conv(192))))

VARIANTS = {
    "inception_v1": Variant(
        stem=(Conv(64, 7, 2), HALVE_UP, Conv(64), Conv(192, 3), HALVE_UP),
        small_stem=lambda stride: (Conv(64, 3, stride), Conv(64), Conv(192, 3), HALVE_UP),
        at_least=15, small_at_least=4,
        blocks=(
            v1_block(64, three=(96, 128), five=(16, 32), pooled=32),
            v1_block(128, three=(128, 192), five=(32, 96), pooled=64),
            HALVE_UP,
            v1_block(192, three=(96, 208), five=(16, 48), pooled=64),
            v1_block(160, three=(112, 224), five=(24, 64), pooled=64),
            v1_block(128, three=(128, 256), five=(24, 64), pooled=64),
            v1_block(112, three=(144, 288), five=(32, 64), pooled=64),
            v1_block(256, three=(160, 320), five=(32, 128), pooled=128),
            HALVE_LAST,
            v1_block(256, three=(160, 320), five=(32, 128), pooled=128),
            v1_block(384, three=(192, 384), five=(48, 128), pooled=128),
        ),
    ),
    "inception_v3": Variant(
        stem=(Conv(32, 3, 2, padded=False), Conv(32, 3, padded=False), Conv(64, 3), HALVE,
              Conv(80), Conv(192, 3, padded=False), HALVE),
        small_stem=lambda stride: (Conv(32, 3, stride), Conv(32, 3), Conv(64, 3), Conv(80), Conv(192, 3), HALVE),
        at_least=75, small_at_least=15,
        blocks=(v3_a(32), v3_a(64), v3_a(64), V3_REDUCE_A,
                v3_c(128), v3_c(160), v3_c(160), v3_c(192), V3_REDUCE_C, V3_E, V3_E),
    ),
}
