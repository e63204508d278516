"""The ladder of the field's teaching on the bowl's images: nets, losses and views, on the first of three folds.

    python benchmarks/ladder.py --data DIR [--canvas 48] [--epochs 10] [--parts nets,losses,views]

DIR holds the competition's train.zip. nets: logistic regression, one hidden layer of 1024, a small VGG-16, the same
number of epochs each. losses: plain and smoothed cross-entropy and two hinge losses on one small ResNet-18; log loss
as trained, and at a temperature that is fitted on one half of the held rows and scored on the other, both halves in
turn. views: what test-time views add to the VGG-16 and to the ResNet-18. Writes benchmarks/results/ladder.json.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
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

from pipeline.cells import Cell
from pipeline.config.model import TtaConfig
from pipeline.data.store import open_packed
from pipeline.metrics import log_loss
from pipeline.rng import generator
from pipeline.stackers.calibrate import fit_temperature, softmax
from pipeline.training.job import FoldJob

ADAMW, SGD = {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01}, {"name": "sgd", "lr": 0.05, "weight_decay": 5e-4}
VGG, RESNET = "vgg16_small", "resnet18"
NETS: dict[str, dict[str, Any]] = {                                        # at --canvas
    "logistic_regression": {"net": "logistic_regression", "optimiser": ADAMW},
    "mlp": {"net": "mlp", "options": {"width": 1024}, "optimiser": ADAMW},
    VGG: {"net": VGG, "options": {"width": 20, "dense": 512}, "optimiser": SGD},
}
LOSSES: dict[str, dict[str, Any]] = {
    "cross_entropy": {"name": "cross_entropy"},
    "smoothed": {"name": "cross_entropy", "smoothing": 0.1},
    "crammer_singer": {"name": "crammer_singer"},
    "weston_watkins": {"name": "weston_watkins"},
}
LOSS_NET: dict[str, Any] = {"net": RESNET, "options": {"width": 12}, "canvas": 40, "optimiser": SGD}
VIEWS = {kind: TtaConfig.model_validate({"kind": kind}) for kind in ("identity", "flips", "crops", "dihedral")}
PLAIN, PARTS = VIEWS["identity"], ("nets", "losses", "views")
FLOOR = np.float32(1e-30)


def main() -> None:
    options = arguments()
    parts = options.parts.split(",")
    nets = {name: entry | {"canvas": options.canvas} for name, entry in NETS.items()}
    losses = {name: LOSS_NET | {"loss": loss} for name, loss in LOSSES.items()}
    entries = {**{name: nets[name] for name in nets if {"nets", "views"} & set(parts)},
               **{name: losses[name] for name in losses if {"losses", "views"} & set(parts)}}
    with working_directory(options.work) as work:
        packed = pack_once(ndsb_data(options.data), work / "ndsb")
        cell = split(packed, k=3, limit=options.limit_rows)[0]
        jobs = {name: job_of(name, entry, options.epochs, packed, cell, work) for name, entry in entries.items()}
        train_folds(list(jobs.values())[::-1], "ladder", slots=options.jobs)                     # the longest first
        labels = open_packed(packed).labels[cell.held_rows]
        found: dict[str, Any] = {}
        if "nets" in parts:
            found["nets"] = net_rows([jobs[name] for name in nets], labels, slots=options.jobs)
        if "losses" in parts:
            found["losses"] = loss_rows([jobs[name] for name in losses], labels, slots=options.jobs)
        if "views" in parts:
            found["views"] = view_rows([jobs[VGG], jobs["cross_entropy"]], labels, slots=options.jobs)
    write("ladder", {"data": "NDSB, first of 3 folds", "n": len(labels), "fitted_rows": len(cell.fit_rows),
                     "epochs": options.epochs, "networks_at_a_time": options.jobs, "threads_each": 1,
                     "entries": entries, **found})


def arguments() -> Any:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True, help="directory with the bowl's train.zip")
    made.add_argument("--canvas", type=int, default=48, help="of the part nets, px")
    made.add_argument("--epochs", type=int, default=10)
    made.add_argument("--parts", default=",".join(PARTS))
    options = made.parse_args()
    unknown = set(options.parts.split(",")) - set(PARTS)
    if unknown:
        made.error(f"--parts: unknown {', '.join(sorted(unknown))}; allowed: {', '.join(PARTS)}")
    return options


def job_of(name: str, entry: dict[str, Any], epochs: int, packed: Path, cell: Cell, work: Path) -> FoldJob:
    return fold_job(name, ndsb_model(name, entry | {"epochs": epochs}), packed=packed, cell=cell, work=work)


def net_rows(jobs: Sequence[FoldJob], labels: np.ndarray, *, slots: int) -> dict[str, Any]:
    """Scores without views, seconds and images/s of each net."""
    predicted = held_probabilities([(job, PLAIN) for job in jobs], slots=slots)
    return {job.model: scores(p, labels) | timing(job) for job, p in zip(jobs, predicted, strict=True)}


def loss_rows(jobs: Sequence[FoldJob], labels: np.ndarray, *, slots: int) -> dict[str, Any]:
    """Scores of each loss without views, as they come and at a temperature that was fitted on other rows."""
    predicted = held_probabilities([(job, PLAIN) for job in jobs], slots=slots)
    return {job.model: scores(p, labels) | calibrated(p, labels) | timing(job)
            for job, p in zip(jobs, predicted, strict=True)}


def view_rows(jobs: Sequence[FoldJob], labels: np.ndarray, *, slots: int) -> dict[str, Any]:
    """Scores of each net under each kind of views."""
    asks = [(job, views) for job in jobs for views in VIEWS.values()]
    rows: dict[str, Any] = {job.config.net: {} for job in jobs}
    for (job, views), p in zip(asks, held_probabilities(asks, slots=slots), strict=True):
        rows[job.config.net][views.kind] = scores(p, labels)
    return rows


def calibrated(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Log loss at a temperature from the other half of the rows, and the two temperatures."""
    logits = np.log(np.maximum(probabilities, FLOOR))                                                      # (H, C)
    halves = np.array_split(generator(0, "halves").permutation(len(labels)), 2)
    answer, temperatures = np.empty_like(probabilities), []
    for fitted, scored in (halves, halves[::-1]):
        temperature = fit_temperature(logits[fitted], labels[fitted])
        answer[scored] = softmax(logits[scored], temperature)
        temperatures.append(round(float(temperature[0]), 3))
    return {"log_loss_at_temperature": round(log_loss(answer, labels), 4), "temperatures": temperatures}


if __name__ == "__main__":
    main()
