"""Numbers of every row of the store that are computed once, by worker processes, and kept by content."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.artefacts import atomic
from pipeline.training.executors import run_jobs
from pipeline.training.lock import hold_lock

CHUNK = 2048    # rows of one job, whose results survive a kill

RowsFunction = Callable[[Any, np.ndarray], np.ndarray]      # (what to do, rows (n,)) -> (n, D)


@dataclass(frozen=True)
class _Chunk:
    function: RowsFunction
    what: Any
    rows: np.ndarray
    target: Path


def cached_rows(function: RowsFunction, what: Sequence[Any], target: Path, *, n_rows: int, slots: int) -> Path:
    """`target`, a .npy file of `function(what, rows)` for rows 0 to n_rows - 1; made if it is not there.

    The name must say everything that determines the numbers. Chunk i is computed with `what[i % len(what)]`, which
    spreads devices. Two processes that want the same file wait for each other; a killed one goes on from its chunks.
    """
    if target.exists():
        return target
    with hold_lock(target.with_suffix(".lock"), lambda note: print(f"{target.name}: {note}"), wait=float("inf"),
                   poll=10.0, work="computing it"):
        if not target.exists():
            starts = range(0, n_rows, CHUNK)
            chunks = [_Chunk(function, what[i % len(what)], np.arange(start, min(start + CHUNK, n_rows)),
                             target.with_suffix(f".part{i}.npy")) for i, start in enumerate(starts)]
            run_jobs(_compute, [chunk for chunk in chunks if not chunk.target.exists()], slots=slots)
            _save(target, np.concatenate([np.load(chunk.target) for chunk in chunks]))
            for chunk in chunks:
                chunk.target.unlink()
    return target


def _compute(chunk: _Chunk) -> None:
    _save(chunk.target, chunk.function(chunk.what, chunk.rows))


def _save(path: Path, values: np.ndarray) -> None:
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, values)
