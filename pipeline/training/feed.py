"""Where a network's inputs come from: warped images, or the features of a frozen network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from pipeline.augment.affine import draw_matrices, fit_matrices
from pipeline.augment.warp import warp_batch
from pipeline.config.model import ModelConfig
from pipeline.data.store import Packed

Arrays = tuple[np.ndarray, ...]     # images (B, S, S, C) uint8 and, where fused, hand-made features (B, F) float32;
                                    # or features of a frozen network (B, D) alone
Inputs = Arrays | tuple[torch.Tensor, ...]      # the same on a device
IDENTITY = np.eye(3)[None]


class Feed(Protocol):
    """Batches of rows of the store, in the order of `rows`; images are overwritten `buffers` batches later."""

    @property
    def n_views(self) -> int:
        """Number of views that a prediction is averaged over."""

    @property
    def starts_plain(self) -> bool:
        """Whether the first view is the plain image."""

    def drawn(self, rows: np.ndarray, rng: np.random.Generator, *, batch: int, buffers: int) -> Iterator[Inputs]:
        """The rows, each augmented by a draw of its own."""

    def view(self, rows: np.ndarray, view: int | None, *, batch: int, buffers: int = 1) -> Iterator[Inputs]:
        """The rows under one of the views; None is the plain image."""


@dataclass(frozen=True)
class Images:
    """Images of the store, one warp each from the source to the canvas, once for every scale."""

    packed: Packed
    config: ModelConfig
    matrices: np.ndarray = field(default_factory=lambda: IDENTITY)      # (V, 3, 3) views, canvas to canvas
    side: np.ndarray | None = None      # (N, F) hand-made features of all rows of the store

    @property
    def n_views(self) -> int:
        """V."""
        return len(self.matrices)

    @property
    def starts_plain(self) -> bool:
        """With every kind of views but crops."""
        return np.array_equal(self.matrices[0], IDENTITY[0])

    def drawn(self, rows: np.ndarray, rng: np.random.Generator, *, batch: int, buffers: int) -> Iterator[Arrays]:
        """The same draw for every scale of an image; `rng` is used up before the first batch."""
        return self._warped(rows, self.drawn_maps(rows, rng), batch=batch, buffers=buffers)

    def view(self, rows: np.ndarray, view: int | None, *, batch: int, buffers: int = 1) -> Iterator[Arrays]:
        """The last batch may be smaller."""
        return self._warped(rows, self.view_maps(rows, view), batch=batch, buffers=buffers)

    def drawn_maps(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Source -> canvas, `(scales, N, 3, 3)` float64: one draw of the augmentation for each row."""
        return self._maps(rows, draw_matrices(rng, len(rows), augment=self.config.augment, canvas=self.config.canvas))

    def view_maps(self, rows: np.ndarray, view: int | None) -> np.ndarray:
        """Source -> canvas, `(scales, N, 3, 3)` float64, of one of the views; None is the plain image."""
        return self._maps(rows, IDENTITY if view is None else self.matrices[view][None])

    def _maps(self, rows: np.ndarray, on_canvas: np.ndarray) -> np.ndarray:
        config = self.config
        shapes = self.packed.table[["height", "width"]].to_numpy()[rows]                                     # (N, 2)
        scales = [(config.fit, config.fill), *((scale.fit, scale.fill) for scale in config.scales)]
        return np.stack([on_canvas @ fit_matrices(shapes, config.canvas, fit=fit, fill=fill) for fit, fill in scales])

    def _warped(self, rows: np.ndarray, matrices: np.ndarray, *, batch: int, buffers: int) -> Iterator[Arrays]:
        config, packed = self.config, self.packed
        ring = np.empty((buffers, len(matrices), min(batch, len(rows)), config.canvas, config.canvas, packed.channels),
                        np.uint8)
        for index, start in enumerate(range(0, len(rows), batch)):
            part = rows[start:start + batch]
            images = [packed.image(row) for row in part]
            warped = [warp_batch(images, m[start:start + batch], canvas=config.canvas, out=out[:len(part)])
                      for m, out in zip(matrices, ring[index % buffers], strict=True)]
            pixels = warped[0] if len(warped) == 1 else np.concatenate(warped, axis=-1)              # (B, S, S, C)
            yield (pixels,) if self.side is None else (pixels, self.side[part])


@dataclass(frozen=True)
class Features:
    """Features of a frozen network, of all rows of the store under each view; not augmented."""

    plain: np.ndarray               # (N, D)
    views: Sequence[np.ndarray]     # V x (N, D)

    @property
    def n_views(self) -> int:
        """V."""
        return len(self.views)

    @property
    def starts_plain(self) -> bool:
        """Whether the first view is the very array of the plain features."""
        return self.views[0] is self.plain

    def drawn(self, rows: np.ndarray, rng: np.random.Generator, *, batch: int, buffers: int) -> Iterator[Arrays]:
        """The plain features: there is nothing to draw."""
        return self.view(rows, None, batch=batch)

    def view(self, rows: np.ndarray, view: int | None, *, batch: int, buffers: int = 1) -> Iterator[Arrays]:
        """The last batch may be smaller."""
        source = self.plain if view is None else self.views[view]
        for start in range(0, len(rows), batch):
            yield (source[rows[start:start + batch]],)
