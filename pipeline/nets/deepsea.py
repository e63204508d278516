"""A VGG-style net after Deep Sea, with cyclic slicing and pooling over the four rotations on request.

Stages of 3x3 convolutions (two per stage, three from the third on) and overlapping 3x3 max-pooling with stride 2,
until the map is 5 px or smaller - dense - [root mean square over the rotations] - dropout - dense - dropout - head.
Channels double per stage, from `width` to at most 4 `width`. Leaky ReLU of 1/3, orthogonal initialisation.

Source: Dieleman et al. 2015, "Classifying plankton with deep neural networks" (Deep Sea's report on the NDSB); cyclic
slicing and pooling also in Dieleman et al. 2016, "Exploiting cyclic symmetry", section 4. Theirs had maxout in the
dense layers and no batch normalisation (`norm: false`).
"""

import torch
from torch import Tensor, nn

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
    cyclic: bool = False,
    norm: bool = True,
) -> Net:
    """VGG-style net with `dense` features; `blocks` are the convolutions of each stage, None fits them to the canvas.

    `cyclic` costs four times as much and makes the features invariant to quarter turns of the input.
    """
    blocks = blocks or default_blocks(canvas)
    require_canvas(canvas, at_least=2 ** len(blocks), net="deepsea")
    layers: list[nn.Module] = []
    inner, side = channels, canvas
    for stage, depth in enumerate(blocks):
        outer = width * min(2**stage, 4)
        for _ in range(depth):
            layers += [nn.Conv2d(inner, outer, 3, padding=1, bias=not norm)]
            layers += [nn.BatchNorm2d(outer)] * norm + [nn.LeakyReLU(LEAK)]
            inner = outer
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
        side = (side + 1) // 2
    layers += [nn.Flatten(), nn.Linear(inner * side * side, dense), nn.LeakyReLU(LEAK)]   # (B, dense)
    first = nn.Sequential(*layers)
    trunk = nn.Sequential(
        Cyclic(first) if cyclic else first, nn.Dropout(dropout), nn.Linear(dense, dense), nn.LeakyReLU(LEAK)
    )
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.orthogonal_(module.weight, gain=nn.init.calculate_gain("leaky_relu", LEAK))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return Net(trunk, nn.Linear(dense, n_classes), dropout=dropout)


def default_blocks(canvas: int) -> tuple[int, ...]:
    """(2, 2, 3, 3, ...): one stage per halving (rounded up) until the map's side is 5 or less, at least one."""
    stages, side = 1, (canvas + 1) // 2
    while side > 5:
        stages, side = stages + 1, (side + 1) // 2
    return tuple(2 if stage < 2 else 3 for stage in range(stages))


class Cyclic(nn.Module):
    """`inner` of the four quarter turns of the input, pooled by the root mean square over them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, H)` to `(B, D)`, the same for every quarter turn of x."""
        turns = torch.cat([torch.rot90(x, k, (2, 3)) for k in range(4)])      # (4 B, C, H, H)
        features = self.inner(turns).float().unflatten(0, (4, -1))            # (4, B, D)
        return (features.square().mean(dim=0) + 1e-8).sqrt()                  # (B, D); the root's slope stays finite
