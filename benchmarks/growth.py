"""A worker's memory, open files and threads over 300 epochs of a tiny net, and over many trainings in a row.

    python benchmarks/growth.py

LeNet-5 on 256 digits at 32 px with everything on that allocates: average, mixing, erasing, early stopping, curves. All
that may grow with the epochs is the curves' and timing's rows, kept for the checkpoint. Writes
benchmarks/results/growth.json.
"""

import gc
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
import torch
from report import write

from pipeline.config.data import DataConfig
from pipeline.config.model import ModelConfig
from pipeline.data.pack import pack
from pipeline.data.store import open_packed
from pipeline.training.executors import run_jobs
from pipeline.training.fold import train_fold
from pipeline.training.job import FoldJob

EPOCHS, TRAININGS, ROWS = (10, 30, 100, 300), (1, 5, 20, 40), 256
BATCH_BYTES = 128 * 32 * 32         # the smallest form of a batch: uint8, as it was warped
CONFIG: dict[str, Any] = {
    "net": "lenet5", "options": {"dropout": 0.1}, "canvas": 32, "batch": 128, "epochs": EPOCHS[-1],
    "augment": {"rotation": 20.0, "zoom": 1.2}, "erase": {}, "mix": {"mixup": 0.3}, "ema": 0.9,
    "early_stopping": {"patience": EPOCHS[-1]}, "weights": "best", "validate_every": 1, "optimiser": {"lr": 0.05},
    "precision": "fp32",
}


@dataclass(frozen=True)
class Sample:
    """What a process holds at one time."""

    resident: int       # bytes
    files: int          # open descriptors
    threads: int
    tensors: int        # that the garbage collector knows, after a collection
    written: int        # bytes of the file that was written last


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        job = growth_job(Path(work))
        epochs = dict(zip(EPOCHS, run_jobs(partial(sampled_epochs, epochs=EPOCHS), [job], slots=1)[0], strict=True))
        short = replace(job, config=job.config.model_copy(update={"epochs": 2}), scratch=Path(work) / "short")
        trainings = dict(zip(TRAININGS, run_jobs(partial(sampled_trainings, counts=TRAININGS), [short], slots=1)[0],
                             strict=True))
    write("growth", {
        "config": CONFIG, "rows": ROWS, "bytes_of_a_batch": BATCH_BYTES,
        "after_epochs": {epoch: asdict(sample) for epoch, sample in epochs.items()},
        "resident_MiB_from_30_to_300": mebibytes(epochs[300].resident - epochs[30].resident),
        "after_trainings_of_2_epochs": {count: asdict(sample) for count, sample in trainings.items()},
        "resident_MiB_from_5_trainings_to_40": mebibytes(trainings[40].resident - trainings[5].resident),
    })


def growth_job(work: Path) -> FoldJob:
    """The long training, on digits that are packed into `work`."""
    packed = work / "packed"
    pack(DataConfig(source="digits", path="."), packed)
    return FoldJob(
        model="net", config=ModelConfig.model_validate(CONFIG), seed=7, packed=packed,
        classes=open_packed(packed).classes, cell=0, fit_rows=np.arange(ROWS), held_rows=np.arange(ROWS, ROWS + 64),
        fold_digest="digest", scratch=work / "scratch", device="cpu", precision="fp32",
    )


def sampled_epochs(job: FoldJob, *, epochs: Sequence[int]) -> list[Sample]:
    """Trains the job in this process; what it held after each of `epochs`, when the checkpoint had been written."""
    samples: list[Sample] = []
    with after_checkpoints(lambda epoch, path: samples.append(sample(path)) if epoch in epochs else None):
        train_fold(job)
    return samples


def sampled_trainings(job: FoldJob, *, counts: Sequence[int]) -> list[Sample]:
    """Trains the job time after time, as a worker trains the folds of a model; what it held after each of `counts`."""
    samples = []
    for count in range(1, counts[-1] + 1):
        scratch = train_fold(replace(job, scratch=job.scratch / str(count)))
        if count in counts:
            samples.append(sample(scratch / "fold.safetensors"))
    return samples


def sample(path: Path) -> Sample:
    """What this process holds now that it has written `path`."""
    gc.collect()
    process = psutil.Process()
    tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())   # isinstance wakes proxies
    return Sample(process.memory_info().rss, process.num_fds(), process.num_threads(), tensors, path.stat().st_size)


@contextmanager
def after_checkpoints(look: Callable[[int, Path], None]) -> Iterator[None]:
    """Within the block, `look(n, path)` follows the n-th checkpoint that this process has put in its place."""
    replace_file, written = os.replace, 0

    def replaced(source: Path, target: Path) -> None:
        nonlocal written
        replace_file(source, target)
        if Path(target).name == "checkpoint.pt":
            written += 1
            look(written, Path(target))

    with patch.object(os, "replace", replaced):
        yield


def mebibytes(count: int) -> float:
    """Bytes in MiB."""
    return round(count / 2**20, 2)


if __name__ == "__main__":
    main()
