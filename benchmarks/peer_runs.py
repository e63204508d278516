"""One measurement of peers.py: one contestant in one way of using the machine, in the contestant's own process."""

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pandas as pd
import torch
from fold_run import fold_job
from joblib.externals.loky import get_reusable_executor
from peer_task import CONFIG, Task

from pipeline.cells import Cell
from pipeline.data.store import open_packed
from pipeline.training.executors import run_jobs
from pipeline.training.fold import train_fold

PEERS = {"lightning": "peer_lightning", "timm": "peer_timm", "fastai": "peer_fastai"}
WARM = 256                                      # rows that workers train on before the clock runs
HELD = 64                                       # rows that ours looks at once, after the last epoch


@dataclass(frozen=True)
class Way:
    """One contestant in one way of using the machine."""

    who: str
    cores: int
    threads: int = 1            # of torch in each process
    workers: int = 0            # of the loader
    folds: int = 1              # side by side
    tuned: bool = True          # bf16 and channels_last, else the peer's defaults

    @property
    def name(self) -> str:
        """As it stands in the table."""
        kind = "" if self.who == "ours" else ", bf16 channels_last" if self.tuned else ", defaults"
        folds = f"{self.folds} folds side by side, " if self.folds > 1 else ""
        how = f"{self.threads} thread" + ("s" if self.threads > 1 else " each" if self.folds > 1 else "")
        return f"{self.who}{kind}: {folds}{how}{', a worker' if self.workers else ''}"


def measure(way: Way, packed: Path, rows: int, epochs: int) -> tuple[float, float]:
    """Images per second of one training of the store's first `rows`, and the mean loss of its last epoch."""
    torch.set_num_threads(way.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    seconds, loss = (ours if way.who == "ours" else peer)(way, packed, rows, epochs)
    visited = rows // CONFIG.batch * CONFIG.batch * epochs * way.folds
    return visited / seconds, loss


def peer(way: Way, packed: Path, rows: int, epochs: int) -> tuple[float, float]:
    """Seconds and last loss of a peer, whose images are copied into memory before."""
    store, train = open_packed(packed), importlib.import_module(PEERS[way.who]).train
    images = [store.image(row).copy() for row in range(rows)]
    task = Task(images, store.labels[:rows], epochs, way.workers, way.tuned)
    started = time.perf_counter()
    loss = train(task)
    return time.perf_counter() - started, loss


def ours(way: Way, packed: Path, rows: int, epochs: int) -> tuple[float, float]:
    """Seconds and last loss of train_fold: one in this process, several in workers that run already."""
    config = CONFIG.model_copy(update={"epochs": epochs})
    held = np.arange(rows, rows + HELD)
    with TemporaryDirectory() as directory:
        jobs = [fold_job("peers", config, packed=packed, cell=Cell(k, 0, k, np.arange(rows), held),
                         work=Path(directory)) for k in range(way.folds)]
        if way.folds > 1:               # the workers have trained before, as the processes of all others have
            warm = CONFIG.model_copy(update={"epochs": 1})
            run_jobs(train_fold, [fold_job("warm", warm, packed=packed, cell=Cell(k, 0, k, np.arange(WARM), held),
                                           work=Path(directory)) for k in range(way.folds)], slots=way.folds)
        started = time.perf_counter()
        if way.folds > 1:
            run_jobs(train_fold, jobs, slots=way.folds)
        else:
            train_fold(jobs[0])
        seconds = time.perf_counter() - started
        if way.folds > 1:               # idle workers would keep this process from ending
            get_reusable_executor().shutdown(wait=True)
        return seconds, float(pd.read_csv(jobs[0].scratch / "curves.csv")["train_loss"].iloc[-1])
