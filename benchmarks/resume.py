"""Trainings killed with signal 9 at random moments and at chosen ones: do they end with the bytes of an unbroken one?

    python benchmarks/resume.py [--points 24] [--seed 0]

A ResNet-20 of width 4 on digits, with all that carries state from step to step or draws random numbers. Moments are
uniform over the duration of the unbroken run; one in three runs is killed again on its way to the end. The `base`
variant is hit at `points` random moments, each other one at an eighth as many. Writes benchmarks/results/resume.json.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from kill import BATCH, RENAMES, SAVE, START, Event, place, results, train_until
from report import write

from pipeline.config.data import DataConfig
from pipeline.config.model import ModelConfig
from pipeline.data.pack import pack
from pipeline.data.store import open_packed
from pipeline.rng import generator
from pipeline.training.job import FoldJob

BASE: dict[str, Any] = {
    "net": "resnet20", "options": {"width": 4, "dropout": 0.2}, "canvas": 12, "batch": 32, "epochs": 9,
    "augment": {"rotation": 20.0, "zoom": 1.2, "shear": 5.0, "translation": 0.1}, "erase": {},
    "mix": {"mixup": 0.3, "cutmix": 1.0, "probability": 0.5}, "sampling": "sqrt",
    "ema": 0.9, "weights": "best", "early_stopping": {"patience": 7, "holdout": 0.2}, "validate_every": 2,
    "optimiser": {"lr": 0.2, "clip": 1.0}, "precision": "fp32",
}
FREE: dict[str, Any] = {"early_stopping": None}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "adamw": {"optimiser": {"name": "adamw", "lr": 0.01}},
    "swa": {**FREE, "weights": "swa", "swa": 3},
    "snapshots": {**FREE, "weights": "last", "snapshots": 2, "schedule": {"name": "cosine", "cycles": 3}},
    "snapshots of averages": {**FREE, "weights": "ema", "snapshots": 2, "schedule": {"name": "cosine", "cycles": 3}},
    "stopped": {"ema": None, "mix": None, "optimiser": {"lr": 1.0}, "schedule": {"name": "constant", "warmup": 0.0},
                "epochs": 20},
    "plateau": {**FREE, "weights": "ema", "mix": None, "optimiser": {"lr": 1.0},
                "schedule": {"name": "plateau", "patience": 1, "factor": 0.5, "warmup": 0.0}},
    "accumulate": {"accumulate": 2},
    "fp16": {"precision": "fp16"},
    "whitened": {"whiten": "zca", "loss": {"name": "weston_watkins", "smoothing": 0.1}, "optimiser": {"lr": 0.02}},
}
ROWS = 400
Kills = Sequence[Mapping[str, Any]]         # of one run: arguments of `train_until`, one process each
WITHIN_SAVING = [Event(SAVE, 1), Event(RENAMES["checkpoint.pt"][0], 3), Event(RENAMES["checkpoint.pt"][1], 6)]
AROUND_SNAPSHOT = [Event(letter, 1) for letter in RENAMES["fold.snapshot1.safetensors"]]
AT_THE_END = [Event(letter, 1) for name in ("fold.safetensors", "curves.csv", "done.json") for letter in RENAMES[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    started = perf_counter()
    with tempfile.TemporaryDirectory() as work:
        packed = Path(work) / "packed"
        pack(DataConfig(source="digits", path="."), packed)
        found = {
            name: measured(name, packed, Path(work), seed=options.seed,
                           points=options.points if name == "base" else max(1, options.points // 8))
            for name in options.variants
        }
    write("resume", {
        "rows": ROWS, "config": BASE, "changes": VARIANTS, "seconds": round(perf_counter() - started),
        **{f"{kind}_{what}": sum(variant[kind][what] for variant in found.values())
           for kind in ("random", "chosen") for what in ("tried", "equal")},
        "variants": found,
    })


def measured(name: str, packed: Path, work: Path, *, points: int, seed: int) -> dict[str, Any]:
    """An unbroken run of one variant, and what came of those that were killed."""
    first, unbroken = (resume_job(name, packed, work / name / f"unbroken {attempt}") for attempt in (1, 2))
    train_until(first, work / "trace")      # also starts the server that children are forked from
    trace, started = work / name / "trace", perf_counter()
    train_until(unbroken, trace)
    seconds = perf_counter() - started
    expected, batches = results(unbroken), trace.read_text().index(SAVE) - 1
    plans: dict[str, Iterator[Kills]] = {
        "random": random_moments(seconds, rng=generator(seed, "moments", name)),
        "chosen": iter([[{"event": event}] for event in chosen_events(name, batches)]),
    }
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in plans}
    for kind, plan in plans.items():
        for attempt, kills in enumerate(plan):
            job = resume_job(name, packed, work / name / f"{kind} {attempt}")
            places = killed(job, kills, batches=batches)
            if places:
                runs[kind].append({"kills": places, "equal": results(job) == expected})
                print(f"{name}: {'; '.join(places)}: {'equal' if runs[kind][-1]['equal'] else 'DIFFERENT'}", flush=True)
            if kind == "random" and len(runs[kind]) == points:
                break
    return {
        "seconds": round(seconds, 2), "epochs": len(expected["curves.csv"].splitlines()) - 1, "batches": batches,
        "unbroken_equal": results(first) == expected,
        **{kind: {"tried": len(of_kind), "equal": sum(run["equal"] for run in of_kind), "runs": of_kind}
           for kind, of_kind in runs.items()},
    }


def killed(job: FoldJob, kills: Kills, *, batches: int) -> list[str]:
    """Trains to the end in spite of the kills, one process each; where they hit, but for those that came too late."""
    trace, places = job.scratch.with_suffix(".trace"), list[str]()
    for kill in kills:
        if train_until(job, trace, **kill):
            return places
        places.append(place(trace.read_text() if trace.exists() else START, batches=batches))
    train_until(job, trace)
    return places


def random_moments(seconds: float, *, rng: np.random.Generator) -> Iterator[Kills]:
    """The moments of one run after the other, uniform over the unbroken run's `seconds`; one run in three has two."""
    while True:
        yield [{"seconds": moment} for moment in rng.uniform(0, seconds, size=1 + (rng.random() < 1 / 3))]


def chosen_events(name: str, batches: int) -> list[Event]:
    """Batches in the middle and at the end of epochs, and moments of saving; of base the start and the end, too."""
    within_epochs = [Event(BATCH, n) for n in (batches + batches // 2, 6 * batches)]
    around_epochs = [Event(BATCH, n) for n in (1, 5 * batches + 1)]
    return [*within_epochs, *WITHIN_SAVING, *((*around_epochs, *AT_THE_END) if name == "base" else ()),
            *(AROUND_SNAPSHOT if "snapshots" in VARIANTS[name] else ())]


def resume_job(name: str, packed: Path, scratch: Path, *, rows: int = ROWS) -> FoldJob:
    """The training of a variant on the first `rows` digits, with the next hundred as held ones."""
    config = ModelConfig.model_validate(BASE | VARIANTS[name])
    return FoldJob(
        model="net", config=config, seed=7, packed=packed, classes=open_packed(packed).classes, cell=0,
        fit_rows=np.arange(rows), held_rows=np.arange(rows, rows + 100), fold_digest="digest", scratch=scratch,
        device="cpu", precision=config.precision,
    )


if __name__ == "__main__":
    main()
