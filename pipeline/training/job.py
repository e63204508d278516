"""What one training job is: everything that a worker process needs to train one fold of one model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.model import ModelConfig


@dataclass(frozen=True)
class FoldJob:
    """One fold of one model; picklable, with no open files."""

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
