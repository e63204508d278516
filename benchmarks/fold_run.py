"""One network on one fold, trained and scored as the stages do it: what the benchmarks of nets share."""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.artefacts import digest
from pipeline.augment.views import view_matrices
from pipeline.cells import Cell, cells
from pipeline.closure import ROOT
from pipeline.config.base import read_params
from pipeline.config.data import DataConfig, FoldsConfig
from pipeline.config.model import ModelConfig, TtaConfig, parse_model
from pipeline.data.pack import pack
from pipeline.data.store import META, open_packed
from pipeline.folds import assign_folds
from pipeline.metrics import METRICS
from pipeline.training.executors import device_for, run_jobs
from pipeline.training.feed import Images
from pipeline.training.fold import train_fold
from pipeline.training.job import FoldJob
from pipeline.training.precision import resolve_precision
from pipeline.training.predict import predict_rows
from pipeline.training.progress import watch
from pipeline.training.weights import load_weights

SEED, RATE_ROWS = 0, 1024


def train_folds(jobs: Sequence[FoldJob], title: str, *, slots: int) -> None:
    """Trains what is not trained yet, `slots` at a time with one thread each, with progress on the terminal."""
    with watch(jobs, title):
        run_jobs(train_fold, jobs, slots=slots)


def held_probabilities(asks: Sequence[tuple[FoldJob, TtaConfig]], *, slots: int) -> list[np.ndarray]:
    """Probabilities `(H, C)` of each trained job's held rows, averaged over the views of its `tta`."""
    return run_jobs(_held_probabilities, asks, slots=slots)


def scores(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, top-5 accuracy and log loss."""
    return {name: round(METRICS[name].score(probabilities, labels), 4) for name in ("accuracy", "top_5", "log_loss")}


def timing(job: FoldJob) -> dict[str, float]:
    """Seconds of all epochs of a trained job, and the median of their images per second."""
    table = pd.read_csv(job.scratch / "timing.csv")
    return {"seconds": round(float(table["seconds"].sum()), 1),
            "images_per_second": round(float(table["images_per_second"].median()), 1)}


def epoch_rates(jobs: Sequence[FoldJob], *, slots: int, work: Path) -> list[float]:
    """Images per second of each job's training, `slots` at a time: the second of two epochs of 1024 rows."""
    short = [fold_job(job.model, job.config.model_copy(update={"epochs": 2}), packed=job.packed, work=work / "rates",
                      cell=Cell(job.cell, 0, job.cell, job.fit_rows[:RATE_ROWS], job.held_rows[:64])) for job in jobs]
    train_folds(short, "rates", slots=slots)
    return [float(pd.read_csv(job.scratch / "timing.csv")["images_per_second"].iloc[-1]) for job in short]


def fold_job(name: str, config: ModelConfig, *, packed: Path, cell: Cell, work: Path) -> FoldJob:
    """The job of one cell, with a scratch directory below `work` that is its own."""
    device, store = device_for(0), open_packed(packed)
    key = digest(config.model_dump_json(), store.digest, cell.fit_rows.tobytes(), cell.held_rows.tobytes())
    return FoldJob(
        model=name, config=config, seed=SEED, packed=packed, classes=store.classes, cell=cell.index,
        fit_rows=cell.fit_rows, held_rows=cell.held_rows, fold_digest=key, scratch=work / name / f"{key}-{cell.index}",
        device=device, precision=resolve_precision(config.precision, device),
    )


def split(packed: Path, *, k: int, limit: int | None = None) -> list[Cell]:
    """Stratified folds of the store's training rows; of each side at most `limit` rows, evenly spaced."""
    store = open_packed(packed)
    hashes = store.table["content_hash"].tolist()[:store.n_train]
    folds = assign_folds(store.labels, config=FoldsConfig(k=k), seed=SEED, groups=None, hashes=hashes,
                         classes=store.classes).folds
    return [Cell(c.index, c.repeat, c.fold, _thinned(c.fit_rows, limit), _thinned(c.held_rows, limit))
            for c in cells(folds)]


def pack_once(data: DataConfig, directory: Path) -> Path:
    """The store of `data` in `directory`, packed unless it lies there already."""
    if not (directory / META).exists():
        pack(data, directory)
    return directory


def ndsb_data(path: Path) -> DataConfig:
    """The bowl's images below `path`, as presets/ndsb.yaml reads them; no sample submission is needed."""
    raw = read_params(ROOT / "presets/ndsb.yaml")["data"]
    return DataConfig.model_validate({**raw, "path": str(path), "sample_submission": None})


def ndsb_model(name: str, entry: dict[str, Any]) -> ModelConfig:
    """`entry` laid over the defaults of presets/ndsb.yaml, looking at the held rows after the last epoch only."""
    defaults = read_params(ROOT / "presets/ndsb.yaml")["defaults"]
    return parse_model(name, {name: {**entry, "validate_every": 10_000}}, defaults)


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that all of these benchmarks take."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="networks at a time")
    made.add_argument("--work", type=Path, help="directory kept between runs, so that a killed run goes on")
    made.add_argument("--limit-rows", type=int, help="rows on each side of a fold: for trying the benchmark itself")
    return made


@contextmanager
def working_directory(kept: Path | None) -> Iterator[Path]:
    """`kept`, made when it is missing, or a temporary directory for None; absolute."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def _held_probabilities(ask: tuple[FoldJob, TtaConfig]) -> np.ndarray:
    job, tta = ask
    net, meta = load_weights(job.scratch / "fold.safetensors")
    views = view_matrices(tta, augment=job.config.augment, canvas=job.config.canvas)                       # (V, 3, 3)
    feed = Images(open_packed(job.packed), job.config, views)
    return predict_rows(net, meta, feed, job.held_rows, average=tta.average, batch=256, device=job.device,
                        precision=meta.precision)


def _thinned(rows: np.ndarray, limit: int | None) -> np.ndarray:
    if limit is None or len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]
