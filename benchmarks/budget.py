"""Three nets on the bowl's images at 64 px, one fold each, within the same wall-clock time.

    python benchmarks/budget.py --data DIR [--minutes 8] [--jobs 2]

DIR holds the competition's train.zip. The rate of each net is measured first, with as many networks at a time as in
the training itself; it decides how many epochs fit, and the cosine schedule ends with the last of them. Writes
benchmarks/results/ndsb-64px.json: scores with and without the eight dihedral views, images/s, epochs, seconds.
"""

from pathlib import Path
from typing import Any

from fold_run import (
    epoch_rates,
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

from pipeline.config.model import TtaConfig
from pipeline.data.store import open_packed

SPARE = 0.97                # of the minutes: what an epoch's checkpoint and a slower moment take
ENTRIES: dict[str, dict[str, Any]] = {
    "deepsea_cyclic": {"net": "deepsea", "options": {"width": 12, "dense": 256, "dropout": 0.2, "cyclic": 4}},
    "resnet18": {"net": "resnet18", "options": {"width": 16}},
    "densenet": {"net": "densenet", "options": {"growth": 12, "blocks": [3, 4, 6]}},
}
VIEWS = {kind: TtaConfig.model_validate({"kind": kind}) for kind in ("identity", "dihedral")}


def main() -> None:
    options = arguments()
    with working_directory(options.work) as work:
        packed = pack_once(ndsb_data(options.data), work / "ndsb")
        cell = split(packed, k=3, limit=options.limit_rows)[0]
        configs = {name: ndsb_model(name, entry | {"canvas": options.canvas}) for name, entry in ENTRIES.items()}
        first = [fold_job(name, config, packed=packed, cell=cell, work=work) for name, config in configs.items()]
        rates = epoch_rates(first, slots=options.jobs, work=work)
        epochs = [fitting(rate, rows=len(cell.fit_rows), seconds=60 * options.minutes) for rate in rates]
        jobs = [fold_job(name, config.model_copy(update={"epochs": n}), packed=packed, cell=cell, work=work)
                for (name, config), n in zip(configs.items(), epochs, strict=True)]
        train_folds(jobs, "budget", slots=options.jobs)
        labels = open_packed(packed).labels[cell.held_rows]
        asks = [(job, views) for job in jobs for views in VIEWS.values()]
        rows: dict[str, Any] = {job.model: {"epochs": job.config.epochs, **timing(job)} for job in jobs}
        for (job, views), p in zip(asks, held_probabilities(asks, slots=options.jobs), strict=True):
            rows[job.model][views.kind] = scores(p, labels)
    write("ndsb-64px", {"data": "NDSB, first of 3 folds", "canvas": options.canvas, "minutes": options.minutes,
                        "n": len(labels), "fitted_rows": len(cell.fit_rows), "networks_at_a_time": options.jobs,
                        "threads_each": 1, "precision": jobs[0].precision, "entries": ENTRIES, "nets": rows})


def arguments() -> Any:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True, help="directory with the bowl's train.zip")
    made.add_argument("--minutes", type=float, default=8, help="of training for each net")
    made.add_argument("--canvas", type=int, default=64, help="px")
    return made.parse_args()


def fitting(rate: float, *, rows: int, seconds: float) -> int:
    """Number of whole epochs over `rows` at `rate` images/s that fit into the seconds, at least one."""
    return max(1, int(SPARE * seconds * rate / rows))


if __name__ == "__main__":
    main()
