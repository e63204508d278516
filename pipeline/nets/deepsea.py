"""VGG-style nets after Deep Sea, with cyclic slicing, rolling and pooling, and one stack per input scale, on request.

[slice: the quarter turns of the input as further images] - per branch of the input's channels: stages of 3x3
convolutions (two per stage, three from the third on), overlapping 3x3 max-pooling with stride 2 [and a roll], until
the map is 5 px or smaller - the branches' maps flattened, side by side - dense - [pool over the turns] - dropout
- dense - dropout - head. Channels double per stage, from `width` to at most 4 `width`; leaky ReLU of 1/3, orthogonal
initialisation.

Source: Dieleman et al. 2015, "Classifying plankton with deep neural networks" (Deep Sea's report on the NDSB), sections
on architecture, rotation invariance and multiscale networks; the order slice, roll after every pooling, dense, pool is
that of their published configuration cp8. Theirs had maxout in the dense layers and no batch normalisation
(`norm: false`), and merged the scales one dense layer later.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.nets.cyclic import CyclicPool, CyclicPooling, CyclicRoll, CyclicSlice
from pipeline.nets.net import Count, Counts, Net, Share, require_canvas

LEAK = 1 / 3


def deepsea(
    *,
    n_classes: int,
    channels: int,
    canvas: int,
    width: Count = 32,
    blocks: Counts | None = None,
    dense: Count = 256,
    dropout: Share = 0.5,
    cyclic: Literal[4, 8] | None = None,
    roll: bool = False,
    cyclic_pool: CyclicPooling = "rms",
    branches: Count = 1,
    norm: bool = True,
) -> Net:
    """VGG-style net with `dense` features; `blocks` are the convolutions of each stage, None fits them to the canvas.

    `cyclic`: features are invariant to quarter turns (4), or to quarter turns and mirrors (8), of the input, at that
    many times the cost. `roll` multiplies the channels of each stage's pooled maps by `cyclic`; `width` counts them
    before it. `branches`: equal groups of the input's channels, one per scale, with a stack each.
    Raises UserError for a canvas too small, a roll without copies, or channels that `branches` does not divide.
    """
    blocks = blocks or default_blocks(canvas)
    require_canvas(canvas, at_least=2 ** len(blocks), net="deepsea")
    if roll and cyclic is None:
        raise UserError("net 'deepsea': options.roll: there are no copies to roll; fix: cyclic: 4 or 8, or roll: false")
    if channels % branches:
        raise UserError(f"net 'deepsea': options.branches: {branches} does not divide the input's {channels} channels; "
                        f"fix: branches: one for each scale (1 + the entries of scales)")
    copies = cyclic if cyclic and roll else 1
    stacks = [_stack(channels // branches, width=width, blocks=blocks, norm=norm, roll=copies) for _ in range(branches)]
    area = _pooled_side(canvas, stages=len(blocks)) ** 2
    joined = branches * copies * width * min(2 ** (len(blocks) - 1), 4) * area
    first = [Branches(stacks), nn.Linear(joined, dense), nn.LeakyReLU(LEAK)]              # (B, dense)
    if cyclic is not None:
        first = [CyclicSlice(cyclic), *first, CyclicPool(cyclic, kind=cyclic_pool)]
    trunk = nn.Sequential(nn.Sequential(*first), nn.Dropout(dropout), nn.Linear(dense, dense), nn.LeakyReLU(LEAK))
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(module.weight, gain=nn.init.calculate_gain("leaky_relu", LEAK))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return Net(trunk, nn.Linear(dense, n_classes), dropout=dropout)


def default_blocks(canvas: int) -> tuple[int, ...]:
    """(2, 2, 3, 3, ...): one stage per halving (rounded up) until the map's side is 5 or less, at least one."""
    stages = 1
    while _pooled_side(canvas, stages=stages) > 5:
        stages += 1
    return tuple(2 if stage < 2 else 3 for stage in range(stages))


class Branches(nn.Module):
    """Equal groups of the input's channels, each through a stack of its own, side by side at the end."""

    def __init__(self, stacks: list[nn.Sequential]) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(stacks)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, H)` to `(B, D)`, the D of all branches together."""
        groups = x.chunk(len(self.stacks), dim=1)
        return torch.cat([stack(group) for stack, group in zip(self.stacks, groups, strict=True)], dim=1)


def _stack(channels: int, *, width: int, blocks: tuple[int, ...], norm: bool, roll: int) -> nn.Sequential:
    """The stages over one branch, flattened; `roll` copies are rolled after each, 1 is none."""
    layers: list[nn.Module] = []
    inner = channels
    for stage, depth in enumerate(blocks):
        outer = width * min(2**stage, 4)
        for _ in range(depth):
            layers += [nn.Conv2d(inner, outer, 3, padding=1, bias=not norm)]
            layers += [nn.BatchNorm2d(outer)] * norm + [nn.LeakyReLU(LEAK)]
            inner = outer
        layers += [nn.MaxPool2d(3, stride=2, padding=1)] + [CyclicRoll(roll)] * (roll > 1)
        inner = outer * roll
    return nn.Sequential(*layers, nn.Flatten())


def _pooled_side(canvas: int, *, stages: int) -> int:
    """Side of the map after `stages` halvings, each rounded up."""
    return -(-canvas // 2**stages)
