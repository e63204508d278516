"""The best single network on the bowl's images at 64 px within an hour of two cores; what each engine feature gives.

    python benchmarks/single.py --data DIR [--epochs 40] [--short 10] [--seeds 2]

DIR holds the competition's train.zip. One process trains the large network for `--epochs`, while the other trains a
smaller one for `--short` epochs once with every feature changed, and once for each seed. Writes
benchmarks/results/single.json: fold 0 of 5, log loss and accuracy without views, with 8 dihedral ones, and with 24
quasi-random ones; features as differences to the base recipe, seed by seed.
"""

import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from fold_run import (
    fold_job,
    held_probabilities,
    ndsb_data,
    ndsb_model,
    pack_once,
    parser,
    scores,
    split,
    timing,
    train_folds,
    working_directory,
)
from report import write

from pipeline.config.model import ModelConfig, TtaConfig
from pipeline.data.store import open_packed
from pipeline.training.job import FoldJob

RECIPE: dict[str, Any] = {
    "net": "resnet18", "canvas": 64, "options": {"stem": "full", "width": 16}, "ema": 0.998,
    "augment": {"rotation": 180, "translation": 0.05, "zoom": 1.15, "shear": 8, "stretch": 1.1, "flip": 0.5},
    "optimiser": {"name": "sgd", "lr": 0.1, "weight_decay": 5e-4},
    "schedule": {"name": "cosine", "warmup": 0.08},
}
FEATURES: dict[str, dict[str, Any]] = {         # one change each
    "base": {},
    "no EMA": {"ema": None, "weights": "last"},
    "SWA of the last 3 epochs": {"weights": "swa", "swa": 3},
    "label smoothing 0.1": {"loss": {"smoothing": 0.1}},
    "mixup 0.2": {"mix": {"mixup": 0.2}},
    "step schedule": {"schedule": {"name": "step", "warmup": 0.08, "steps": (0.7, 0.9)}},
    "one cycle": {"schedule": {"name": "one_cycle", "warmup": 0.3}, "optimiser": {**RECIPE["optimiser"], "lr": 0.15}},
}
LARGE: dict[str, Any] = {
    "options": {"stem": "full", "width": 32}, "ema": 0.999,
    "augment": {"rotation": 180, "translation": 0.08, "zoom": 1.25, "shear": 12, "stretch": 1.2, "flip": 0.5},
}
VIEWS = {
    "1": TtaConfig(kind="identity"),
    "8": TtaConfig(kind="dihedral"),
    "24": TtaConfig(kind="affine", views=24, scale=0.5),
}


def main() -> None:
    options = arguments()
    with working_directory(options.work) as work:
        packed = pack_once(ndsb_data(options.data), work / "ndsb")
        cell = split(packed, k=5, limit=options.limit_rows)[0]
        labels = open_packed(packed).labels[cell.held_rows]

        def job(name: str, config: ModelConfig, seed: int) -> FoldJob:
            made = fold_job(name, config, packed=packed, cell=cell, work=work)
            return replace(made, seed=seed, scratch=made.scratch.with_name(f"{made.scratch.name}.seed{seed}"))

        large = job("large", ndsb_model("large", RECIPE | LARGE | {"epochs": options.epochs}), 0)
        configs = {name: ndsb_model("short", RECIPE | change | {"epochs": options.short})
                   for name, change in FEATURES.items()}
        short = {(name, seed): job(f"feature{i}", config, seed)
                 for seed in range(options.seeds) for i, (name, config) in enumerate(configs.items())}
        started = time.perf_counter()
        train_folds([large, *short.values()], "single", slots=options.jobs)
        seconds = time.perf_counter() - started
        asks = [(large, tta) for tta in VIEWS.values()] + [(j, VIEWS["1"]) for j in short.values()]
        found = [scores(p, labels) for p in held_probabilities(asks, slots=options.jobs)]
    views = dict(zip(VIEWS, found, strict=False))
    by_feature = dict(zip(short, found[len(VIEWS):], strict=True))
    write("single", {
        "data": "NDSB, first of 5 folds", "n": len(labels), "fitted_rows": len(cell.fit_rows),
        "networks_at_a_time": options.jobs, "threads_each": 1, "precision": large.precision,
        "seconds_of_training": round(seconds, 1),
        "large": {"section": RECIPE | LARGE, "epochs": options.epochs, **timing(large), "views": views},
        "features": {"section": RECIPE, "epochs": options.short, "seeds": options.seeds,
                     "changes": FEATURES, "table": feature_table(by_feature, seeds=options.seeds)},
    })


def feature_table(found: dict[tuple[str, int], dict[str, float]], *, seeds: int) -> dict[str, Any]:
    """Scores of each feature for every seed, and their mean and range of differences to the base of the same seed."""
    table: dict[str, Any] = {}
    for name in FEATURES:
        each = [found[name, seed] for seed in range(seeds)]
        gains = {metric: [score[metric] - found["base", seed][metric] for seed, score in enumerate(each)]
                 for metric in ("log_loss", "accuracy")}
        table[name] = {"scores": each, "difference": {
            metric: {"mean": round(statistics.mean(g), 4), "min": round(min(g), 4), "max": round(max(g), 4)}
            for metric, g in gains.items()}}
    return table


def arguments() -> Any:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True, help="directory with the bowl's train.zip")
    made.add_argument("--epochs", type=int, default=40, help="of the large network")
    made.add_argument("--short", type=int, default=10, help="epochs of the networks that features are compared on")
    made.add_argument("--seeds", type=int, default=2)
    return made.parse_args()


if __name__ == "__main__":
    main()
