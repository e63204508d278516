"""The networks that an assignment of rows to folds asks for, and the digest by which members know the assignment."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.artefacts import digest


@dataclass(frozen=True)
class Cell:
    """One network of a model: what it is fitted on and what it predicts."""

    index: int                  # repeat * k + fold
    repeat: int
    fold: int
    fit_rows: np.ndarray        # (n,) int64, ascending
    held_rows: np.ndarray       # (N - n,) int64, ascending


def fold_digest(ids: Sequence[str], labels: Sequence[str], folds: np.ndarray) -> str:
    """Digest of who is in which fold, folds `(R, N)`; the order of the rows does not matter, anything else does."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    columns = (",".join(map(str, folds[:, i].tolist())) for i in order)
    return digest(str(folds.shape[0]), *(part for i, column in zip(order, columns, strict=True)
                                         for part in (ids[i], labels[i], column)))


def cells(folds: np.ndarray) -> list[Cell]:
    """The networks of a model, repeat by repeat and fold by fold, for folds `(R, N)`."""
    k = int(folds.max()) + 1
    return [
        Cell(repeat * k + fold, repeat, fold, np.flatnonzero(row != fold), np.flatnonzero(row == fold))
        for repeat, row in enumerate(folds) for fold in range(k)
    ]
