"""What one training job is: everything that a worker process needs to train one network of one model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.model import ModelConfig


@dataclass(frozen=True)
class FoldJob:
    """One network: one fold and one replica of one model; picklable, with no open files."""

    model: str                  # the key under `models:`
    config: ModelConfig
    seed: int
    packed: Path                # directory of the packed store
    classes: Sequence[str]      # C names, in the order of the logits
    cell: int                   # repeat * k + fold
    fit_rows: np.ndarray        # rows of the store that the network may learn from
    held_rows: np.ndarray       # rows that it must never see: looked at for the curves only
    fold_digest: str
    scratch: Path               # directory of this fold's work in progress, keyed by a fingerprint of all of this
    device: str                 # "cpu" or "cuda:<i>"
    precision: str              # "fp32" or "bf16", already resolved
    replica: int = 0            # of `seeds`
    side: Path | None = None    # hand-made features of all rows of the store (N, F), where the section names some
    pseudo: Path | None = None  # teachers' probabilities of all test rows (T, C) float32, where `pseudo` is on
    features: Path | None = None  # of the frozen network, of all rows of the store (N, D), with `freeze: all`

    @property
    def purpose(self) -> tuple[str | int, ...]:
        """What random numbers are derived from, beside the seed; the first replica's do not depend on `seeds`."""
        return (self.model, self.cell, *((f"replica {self.replica}",) if self.replica else ()))

    @property
    def label(self) -> str:
        """`fold 2`, or `fold 2, replica 1`, for messages."""
        return f"fold {self.cell}" + (f", replica {self.replica}" if self.replica else "")
