"""Training on CPU cores against its bare limits: the step alone, fp32, and one fold after the other.

    python benchmarks/engine.py [--rounds 6] [--seconds 8] [--nets lenet5,densenet]

1. Share of the bare step: images/s of train_fold's epochs (packed images, one warp each, normalisation, loss, average
   of the weights, heartbeat) to those of forward, backward and update of one batch that lies in memory as floats.
2. The bare step in fp32 and in bf16, channels_last, and in fp32 NCHW.
3. Two folds side by side with one thread each, and one after the other with one and with two threads: with the start
   of the worker processes ("wall"), and the epochs alone ("epochs", from timing.csv).

One thread but where it says two; contestants take turns within one run. Writes benchmarks/results/engine.json.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from fold_run import fold_job
from joblib.externals.loky import get_reusable_executor
from report import interleaved, write
from rich.console import Console
from rich.table import Table
from synthetic import CLASSES, flower_store

from pipeline.cells import Cell
from pipeline.config.model import AugmentConfig, ModelConfig
from pipeline.nets.cost import cost
from pipeline.nets.registry import build
from pipeline.training.executors import run_jobs
from pipeline.training.fold import train_fold
from pipeline.training.job import FoldJob
from pipeline.training.optimiser import make_optimiser
from pipeline.training.precision import autocast, resolve_precision

BATCH, ROWS, HELD, EPOCH = 64, 2048, 64, 1.0            # EPOCH: seconds, about, of an epoch of part 1
DEEP_SEA = AugmentConfig(rotation=180, translation=0.1, zoom=1.6, shear=20, stretch=1.3, flip=0.5)
NETS: dict[str, dict[str, Any]] = {                     # the first is below the 0.05 GFLOP that the target is for
    "lenet5": {"canvas": 32},
    "resnet18": {"canvas": 48, "options": {"width": 16}},
    "densenet": {"canvas": 64, "options": {"growth": 12, "blocks": [3, 4, 6]}},
    "deepsea": {"canvas": 64, "options": {"width": 16}},
    "efficientnet_atto": {"canvas": 96},
}
SIDE_BY_SIDE = "resnet18"
FORMATS = {"fp32 NCHW": ("fp32", False), "fp32 channels_last": ("fp32", True), "bf16 channels_last": ("bf16", True)}
Row = dict[str, Any]


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    names = options.nets.split(",") if options.nets else list(NETS)
    with TemporaryDirectory() as directory:
        work = Path(directory)
        packed = flower_store(work / "flowers", rows=ROWS + HELD)
        nets = {name: one_net(name, packed, work, rounds=options.rounds) for name in names}
        folds = two_folds(packed, work, rounds=max(1, options.rounds // 2), seconds=options.seconds)
    for table in (net_table(nets), fold_table(folds)):
        Console().print(table)
    write("engine", {"batch": BATCH, "precision": resolve_precision("auto", "cpu"), "entries": NETS, "nets": nets,
                     "two_folds": {"net": SIDE_BY_SIDE, **folds}})


def arguments() -> Any:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=6, help="turns of each contestant, and half as many of two folds")
    made.add_argument("--seconds", type=float, default=8, help="of training of each of the two folds, about")
    made.add_argument("--nets", help=f"some of {', '.join(NETS)}, separated by commas; all by default")
    return made.parse_args()


def section(name: str, *, epochs: int = 2) -> ModelConfig:
    """The section of one of NETS."""
    return ModelConfig.model_validate({"net": name, "batch": BATCH, "epochs": epochs, "augment": DEEP_SEA,
                                       "optimiser": {"lr": 0.02}, "validate_every": 10_000, **NETS[name]})


def one_net(name: str, packed: Path, work: Path, *, rounds: int) -> Row:
    """Parts 1 and 2 for one net: images per second and their ratios."""
    config = section(name)
    _, flops = cost(name, options=config.options, n_classes=CLASSES, channels=1, canvas=config.canvas)
    steps = {kind: bare_step(config, precision, last) for kind, (precision, last) in FORMATS.items()}
    formats = {kind: BATCH / np.array(taken) for kind, taken in interleaved(steps, repeats=rounds).items()}
    bf16, fp32 = formats["bf16 channels_last"], formats["fp32 channels_last"]
    epochs, bare = epochs_and_bare(name, packed, work, rounds=rounds)
    return {
        "gflop": round(flops / 1e9, 3), "share_of_bare": spread(epochs / bare, 3),
        "train_fold": spread(epochs), "bare": spread(bare), **{kind: spread(rates) for kind, rates in formats.items()},
        "bf16_to_fp32": spread(bf16 / fp32, 2), "bf16_to_fp32_nchw": spread(bf16 / formats["fp32 NCHW"], 2),
    }


def epochs_and_bare(name: str, packed: Path, work: Path, *, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Images per second `(rounds,)` of train_fold's epochs and of as many bare steps, in turns after one warm-up."""
    config = section(name)
    step = bare_step(config, resolve_precision("auto", "cpu"), True)
    step()
    count = int(np.clip(EPOCH / seconds_of(step), 4, ROWS // BATCH))
    epochs, bare = [], []
    for turn in range(rounds + 1):
        job = flower_job(name, config, packed, work / f"turn {turn}", rows=count * BATCH)
        train_fold(job)
        epochs.append(pd.read_csv(job.scratch / "timing.csv")["images_per_second"].median())
        bare.append(count * BATCH / sum(seconds_of(step) for _ in range(count)))
    return np.array(epochs[1:]), np.array(bare[1:])


def bare_step(config: ModelConfig, precision: str, channels_last: bool) -> Callable[[], None]:
    """Forward, backward and update of one batch of noise, on a net of its own."""
    torch.manual_seed(0)
    side = config.canvas
    net = build(config.net, options=config.options, n_classes=CLASSES, channels=1, canvas=side)
    images = torch.randn(BATCH, 1, side, side)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        images = torch.randn(BATCH, side, side, 1).permute(0, 3, 1, 2)                              # (B, 1, S, S)
    optimiser, labels = make_optimiser(net, config.optimiser), torch.randint(0, CLASSES, (BATCH,))

    def step() -> None:
        with autocast(precision, images.device):
            logits = net(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def two_folds(packed: Path, work: Path, *, rounds: int, seconds: float) -> Row:
    """Part 3: seconds of two folds in each way, and how many times as fast as one after the other."""
    epochs_rate, _ = epochs_and_bare(SIDE_BY_SIDE, packed, work / "rate", rounds=1)
    epochs = max(1, round(seconds * float(epochs_rate[0]) / ROWS))
    ways = {"one after the other": (train_fold, 1), "side by side": (train_fold, 2),
            "one after the other, two threads": (on_two_threads, 1)}
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for turn in range(rounds):
        for way, (function, slots) in ways.items():
            jobs = [flower_job(SIDE_BY_SIDE, section(SIDE_BY_SIDE, epochs=epochs), packed, work / f"{way} {turn}",
                               rows=ROWS, cell=cell) for cell in range(2)]
            get_reusable_executor().shutdown(wait=True)          # the wall time has the start of the workers in it
            wall = seconds_of(partial(run_jobs, function, jobs, slots=slots))
            own = [float(pd.read_csv(job.scratch / "timing.csv")["seconds"].sum()) for job in jobs]
            taken[way].append((wall, max(own) if slots == 2 else sum(own)))
    times = {way: np.array(pairs) for way, pairs in taken.items()}                                       # (rounds, 2)
    one = times["one after the other"]
    return {"epochs": epochs, "rows": ROWS, "ways": {
        way: {f"{kind}_{what}": spread(values[:, i], 2) for i, kind in enumerate(("wall", "epochs"))
              for what, values in (("seconds", pairs), ("speed", one / pairs))}
        for way, pairs in times.items()}}


def on_two_threads(job: FoldJob) -> Path:
    """train_fold in a worker process that uses two threads."""
    torch.set_num_threads(2)
    return train_fold(job)


def flower_job(name: str, config: ModelConfig, packed: Path, work: Path, *, rows: int, cell: int = 0) -> FoldJob:
    """A job on the first rows of the store, which looks at the last HELD after its last epoch."""
    held = np.arange(ROWS, ROWS + HELD)
    return fold_job(name, config, packed=packed, cell=Cell(cell, 0, cell, np.arange(rows), held), work=work)


def seconds_of(run: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    started = perf_counter()
    run()
    return perf_counter() - started


def spread(values: np.ndarray, digits: int = 1) -> dict[str, float]:
    """Median, quartiles and n."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": round(middle, digits), "lower_quartile": round(low, digits),
            "upper_quartile": round(high, digits), "n": len(values)}


def net_table(nets: dict[str, Row]) -> Table:
    """Medians of parts 1 and 2."""
    made = Table("net", "GFLOP", "train_fold, images/s", "bare step", "share", *FORMATS, "bf16 to fp32")
    for name, row in nets.items():
        rates = (f"{row[kind]['median']:.0f}" for kind in ("train_fold", "bare"))
        made.add_row(name, f"{row['gflop']:.3f}", *rates, f"{row['share_of_bare']['median']:.3f}",
                     *(f"{row[kind]['median']:.0f}" for kind in FORMATS), f"{row['bf16_to_fp32']['median']:.2f}")
    return made


def fold_table(folds: Row) -> Table:
    """Medians of part 3."""
    made = Table(f"two folds of {SIDE_BY_SIDE}", "wall, s", "times as fast", "epochs, s", "times as fast")
    for way, row in folds["ways"].items():
        made.add_row(way, *(f"{row[f'{kind}_{what}']['median']:.2f}" for kind in ("wall", "epochs")
                            for what in ("seconds", "speed")))
    return made


if __name__ == "__main__":
    main()
