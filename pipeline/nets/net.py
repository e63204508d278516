"""What every net is: a trunk that embeds, and a linear head."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from pipeline.errors import UserError

Count = Annotated[int, Field(ge=1)]             # option types: `registry.build` checks values against them
Counts = Annotated[tuple[Count, ...], Field(min_length=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Net(nn.Module):
    """logits = head(dropout(trunk(x))); the features that are embedded have not passed that dropout.

    `trunk` maps `(B, channels, canvas, canvas)` to `(B, feature_width)`; logits are `(B, n_classes)`.
    """

    def __init__(self, trunk: nn.Module, head: nn.Linear, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.trunk = trunk
        self.dropout = nn.Dropout(dropout)
        self.head = head
        self.feature_width = head.in_features

    def embed(self, x: Tensor) -> Tensor:
        """Penultimate features, `(B, feature_width)`."""
        return self.trunk(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, `(B, n_classes)`."""
        return self.head(self.dropout(self.embed(x)))

    def forward_both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and features from one pass through the trunk."""
        features = self.embed(x)
        return self.head(self.dropout(features)), features


def require_canvas(canvas: int, *, at_least: int, net: str) -> None:
    """Raises UserError where the net's pooling would leave nothing of the canvas."""
    if canvas < at_least:
        raise UserError(f"net '{net}': canvas {canvas} is too small; fix: canvas: {at_least} or more")
