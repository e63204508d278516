"""What a user would pick instead, on the same two cores: Lightning, timm's loop and fastai against train_fold.

    pip install -c constraints.txt -r benchmarks/peers-requirements.txt     (in an environment of its own)
    python benchmarks/peers.py [--rows 768] [--epochs 2] [--rounds 3] [--workers]

Same net, images, law of augmentation, batch, optimiser, schedule and epochs (peer_task.py). Seconds run from images
in memory (for ours: in the packed store) to trained weights, with the loader's start; imports and the start of the
process are not counted. Peers are spared logs, checkpoints and bars; ours writes its checkpoint after every epoch and
a look at its progress. Each contestant has a process of its own, and they take turns. A peer that is not installed is
skipped. Writes benchmarks/results/peers.json, with the ratios of ours to the best peer.
"""

import argparse
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from peer_runs import HELD, PEERS, Way, measure
from peer_task import CONFIG
from report import write
from rich.console import Console
from rich.table import Table
from synthetic import flower_store

Row = dict[str, Any]
OURS = Way("ours", cores=1), Way("ours", cores=2, folds=2)
MACHINE = {"cores": 2, "threads": 2}, {"cores": 1}         # a peer gets the best of these
WITH_WORKER = {"cores": 2, "workers": 1}


def main() -> None:
    options, console = arguments(), Console()
    missing = [who for who in PEERS if not installed(who)]
    machine = (*MACHINE, WITH_WORKER) if options.workers else MACHINE
    ways = [*OURS, *(Way(who, tuned=tuned, **how) for who in PEERS if who not in missing
                     for tuned in (False, True) for how in machine)]
    with TemporaryDirectory() as directory, ExitStack() as stack:
        packed = flower_store(Path(directory), rows=options.rows + HELD)
        spawn = multiprocessing.get_context("spawn")
        processes = {who: stack.enter_context(ProcessPoolExecutor(1, spawn)) for who in {way.who for way in ways}}
        turns: list[list[tuple[float, float]]] = []
        for turn in range(options.rounds):
            turns.append([])
            for way in ways:
                console.print(f"round {turn + 1} of {options.rounds}: {way.name}", highlight=False)
                ask = processes[way.who].submit(measure, way, packed, options.rows, options.epochs)
                turns[-1].append(ask.result())
    rates = {way: np.array([turn[i][0] for turn in turns]) for i, way in enumerate(ways)}
    losses = {way: float(np.median([turn[i][1] for turn in turns])) for i, way in enumerate(ways)}
    console.print(table(rates, losses))
    write("peers", {
        "net": f"{CONFIG.net} {CONFIG.options}", "canvas": CONFIG.canvas, "batch": CONFIG.batch, "rows": options.rows,
        "epochs": options.epochs, "peers": {who: "missing" if who in missing else version(who) for who in PEERS},
        "ratios": ratios(rates),
        "contestants": {way.name: {"cores": way.cores, "loss_of_last_epoch": losses[way], **spread(rates[way])}
                        for way in ways},
    })


def arguments() -> Any:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rows", type=int, default=768, help="of an epoch")
    made.add_argument("--epochs", type=int, default=2)
    made.add_argument("--rounds", type=int, default=3, help="that each contestant is measured")
    made.add_argument("--workers", action="store_true", help="peers also with one thread and a loader's worker")
    return made.parse_args()


def installed(who: str) -> bool:
    """Whether there is such a distribution."""
    try:
        return bool(version(who))
    except PackageNotFoundError:
        return False


def ratios(rates: dict[Way, np.ndarray]) -> Row:
    """Ours to the best of the peers, median over the rounds; best is the highest median. Empty without peers."""
    one, two = OURS
    asks = {"machine: two folds against two cores": (two, 2), "one fold on one core against two cores": (one, 2),
            "core: one fold against one core": (one, 1)}
    found: Row = {}
    for said, (mine, cores) in asks.items():
        for kind, kinds in {"best of all": (False, True), "best of the defaults": (False,)}.items():
            rivals = [way for way in rates if way.who != "ours" and way.cores == cores and way.tuned in kinds]
            if rivals:
                best = max(rivals, key=lambda way: float(np.median(rates[way])))
                found.setdefault(said, {})[kind] = {
                    "ratio": round(float(np.median(rates[mine] / rates[best])), 2), "peer": best.name}
    return found


def spread(rates: np.ndarray) -> dict[str, float]:
    """Median, quartiles and n."""
    low, middle, high = np.quantile(rates, (0.25, 0.5, 0.75))
    return {"images_per_second": round(middle, 1), "lower_quartile": round(low, 1), "upper_quartile": round(high, 1),
            "n": len(rates)}


def table(rates: dict[Way, np.ndarray], losses: dict[Way, float]) -> Table:
    """One line per contestant, the fastest first."""
    made = Table("contestant", "cores", "images/s", "loss of the last epoch")
    for way in sorted(rates, key=lambda way: -float(np.median(rates[way]))):
        made.add_row(way.name, str(way.cores), f"{np.median(rates[way]):.0f}", f"{losses[way]:.2f}")
    return made


if __name__ == "__main__":
    main()
