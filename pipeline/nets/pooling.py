"""Pooling a map of features to one number per channel."""

from typing import Literal

import torch
from torch import Tensor, nn

Pool = Literal["average", "max", "rms", "gem"]
FLOOR = 1e-6     # of generalised-mean pooling's input: keeps the power's slope finite


def global_pool(kind: Pool) -> nn.Module:
    """`(B, C, H, W)` to `(B, C)`: the mean, the maximum, the root mean square, or a generalised mean over the map."""
    pools: dict[str, type[nn.Module]] = {"average": Average, "max": Maximum, "rms": RootMeanSquare,
                                         "gem": GeneralisedMean}
    return pools[kind]()


class Average(nn.Module):
    """The mean over the map."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C)`."""
        return x.mean(dim=(2, 3))


class Maximum(nn.Module):
    """The maximum over the map."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C)`."""
        return x.amax(dim=(2, 3))


class RootMeanSquare(nn.Module):
    """The root of the mean of squares over the map, in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C)`."""
        return (x.float().square().mean(dim=(2, 3)) + 1e-8).sqrt()   # the root's slope stays finite


class GeneralisedMean(nn.Module):
    """mean(max(x, 1e-6) ** p) ** (1 / p) with one learnt p, 3 at the start, in float32.

    Source: Radenovic et al. 2018, "Fine-tuning CNN image retrieval with no human annotation", section 3.2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor([3.0]))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, C)`."""
        return x.float().clamp(min=FLOOR).pow(self.power).mean(dim=(2, 3)).pow(1 / self.power)
