"""What every net is: a trunk that embeds, and a linear head."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.errors import UserError

Count = Annotated[int, Field(ge=1)]             # option types: `registry.build` checks values against them
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

SIDE_WIDTH = 64     # features that hand-made numbers are turned into before they join the trunk's


class Net(nn.Module):
    """logits = head(dropout(embed(x))); the features that are embedded have not passed that dropout.

    `trunk` maps `(B, channels, canvas, canvas)` to `(B, feature_width)`; logits are `(B, n_classes)`. After `fuse`,
    embedding and logits also depend on `side` `(B, F)`, one row of hand-made features per image.
    """

    def __init__(self, trunk: nn.Module, head: nn.Linear, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.whiten: nn.Module = nn.Identity()
        self.trunk = trunk
        self.side: nn.Module | None = None
        self.dropout = nn.Dropout(dropout)
        self.head = head
        self.feature_width = head.in_features

    def fuse(self, n_side: int) -> None:
        """Late fusion: `n_side` hand-made features, standardised, join the trunk's through one layer of ReLUs.

        The head is a fresh one. Source: Deep Sea (NDSB 2015), where such features are merged after the convolutions.
        """
        self.side = nn.Sequential(nn.BatchNorm1d(n_side, affine=False), nn.Linear(n_side, SIDE_WIDTH), nn.ReLU())
        self.head = nn.Linear(self.feature_width + SIDE_WIDTH, self.head.out_features)
        self.feature_width = self.head.in_features

    def embed(self, x: Tensor, side: Tensor | None = None) -> Tensor:
        """Penultimate features, `(B, feature_width)`."""
        features: Tensor = self.trunk(self.whiten(x))
        if self.side is None:
            return features
        return torch.cat([features, self.side(side).to(features.dtype)], dim=1)

    def forward(self, x: Tensor, side: Tensor | None = None) -> Tensor:
        """Logits, `(B, n_classes)`."""
        return self.head(self.dropout(self.embed(x, side)))

    def forward_both(self, x: Tensor, side: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits and features from one pass through the trunk."""
        features = self.embed(x, side)
        return self.head(self.dropout(features)), features


def require_canvas(canvas: int, *, at_least: int, net: str) -> None:
    """Raises UserError where the net's pooling would leave nothing of the canvas."""
    if canvas < at_least:
        raise UserError(f"net '{net}': canvas {canvas} is too small; fix: canvas: {at_least} or more")
