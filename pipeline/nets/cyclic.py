"""Cyclic slicing, rolling and pooling: one set of filters looks at every quarter turn of an image.

Copy g of an image is g x, for g in the 4 quarter turns (`copies` 4) or in the 4 quarter turns of the image and of its
mirror image (`copies` 8, the dihedral group: all symmetries of the pixel grid). Copies lie along the batch, copy by
copy: `(copies * B, ...)`. Turning x permutes the copies of a batch entry and does nothing else, through any layers that
treat copies alike and through rolls; pooling over the copies forgets their order.

Source: Dieleman et al. 2016, "Exploiting cyclic symmetry in convolutional neural networks", figure 3 (slice, roll and
pool of 4 copies). The 8 copies of some of Deep Sea's nets are another set: the quarter turns of the image and of a
second input turned by 45 degrees, which is resampled, so that the symmetry only nearly holds.
"""

from typing import Literal

import torch
from torch import Tensor, nn

CyclicPooling = Literal["mean", "max", "rms"]


def turned(x: Tensor, element: int) -> Tensor:
    """`element` x, by numpy.rot90's law on the last two axes: `element % 4` turns, after a left-right mirror from 4 on.

    Elements 0 to 3 are the quarter turns, 4 to 7 those of the mirror image; `(..., H, H)` keeps its shape.
    """
    return torch.rot90(x.flip(-1) if element >= 4 else x, element % 4, (-2, -1))


def composed(first: int, second: int) -> int:
    """The element that acts as `second`, then `first`: a mirror reverses the sense of the turns before it."""
    turns = first % 4 + (second % 4 if first < 4 else -(second % 4))
    return turns % 4 + 4 * ((first >= 4) != (second >= 4))


def inverse(element: int) -> int:
    """The element that undoes `element`; mirrors undo themselves."""
    return element if element >= 4 else -element % 4


class CyclicSlice(nn.Module):
    """Every image's copies, stacked along the batch."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.copies = copies

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, H)` to `(copies * B, C, H, H)`."""
        return torch.cat([turned(x, element) for element in range(self.copies)])


class CyclicRoll(nn.Module):
    """Copy g gets, for every k of the group, the maps of copy k g turned back by k, side by side as channels.

    All maps of a copy then show the image in that copy's own orientation: the next convolution sees each of its
    filters in every orientation. Equivariant: the copies of a turned image are permuted before and after alike.
    """

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.copies = copies

    def forward(self, x: Tensor) -> Tensor:
        """`(copies * B, C, H, H)` to `(copies * B, copies * C, H, H)`."""
        maps, group = x.chunk(self.copies), range(self.copies)                # copies times (B, C, H, H)
        return torch.cat([torch.cat([turned(maps[composed(k, g)], inverse(k)) for k in group], dim=1) for g in group])


class CyclicPool(nn.Module):
    """The mean, the maximum or the root mean square over the copies, in float32."""

    def __init__(self, copies: int, *, kind: CyclicPooling) -> None:
        super().__init__()
        self.copies, self.kind = copies, kind

    def forward(self, x: Tensor) -> Tensor:
        """`(copies * B, D)` to `(B, D)`, whatever the order of the copies."""
        each = x.float().unflatten(0, (self.copies, -1))                      # (copies, B, D)
        if self.kind == "max":
            return each.amax(dim=0)
        if self.kind == "mean":
            return each.mean(dim=0)
        return (each.square().mean(dim=0) + 1e-8).sqrt()                      # the root's slope stays finite
