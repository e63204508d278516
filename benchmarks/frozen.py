"""Heads on a frozen backbone that this pipeline trained itself, on other classes of the bowl.

    python benchmarks/frozen.py --data DIR [--epochs 12]

DIR holds the competition's train.zip. A small ResNet learns every other class (all their images); its weights are
frozen, and heads, an SVM and a LightGBM are cross-validated by the stages on the images of the remaining classes,
beside the same net from scratch and the same net fine-tuned. Writes benchmarks/results/frozen.json: scores out of
fold, and the seconds of each stage; the first stage on the backbone pays for its features.
"""

import os
from collections.abc import Callable
from pathlib import Path
from shutil import copyfile
from time import perf_counter
from typing import Any

import numpy as np
from fold_run import fold_job, ndsb_data, pack_once, parser, scores, timing, train_folds, working_directory
from report import write
from ruamel.yaml import YAML

from pipeline.artefacts import OOF, PACKED, PARAMS
from pipeline.cells import Cell
from pipeline.config.model import parse_model
from pipeline.data.store import META, PIXELS, Row, open_packed, write_packed
from pipeline.members import read_member
from pipeline.stages import check, folds, predict, stack, train
from pipeline.stages.competition import load_competition

WEIGHTS = "pretrained/backbone.safetensors"
NET: dict[str, Any] = {"net": "resnet18", "options": {"width": 12}}
FROZEN = {**NET, "pretrained": WEIGHTS, "freeze": "all", "epochs": 20, "augment": {},
          "optimiser": {"name": "adamw", "lr": 0.005, "weight_decay": 0.01}}
MODELS: dict[str, dict[str, Any]] = {
    "frozen_linear": FROZEN,
    "frozen_dense": {**FROZEN, "head": {"name": "dense", "width": 256, "dropout": 0.3}},
    "fine_tuned": {**NET, "pretrained": WEIGHTS, "epochs": 4, "optimiser": {"lr": 0.02}},
    "from_scratch": NET,
}
STACKERS = {"svm": {"kind": "svm", "models": ["frozen_linear"]},
            "lightgbm": {"kind": "lightgbm", "models": ["frozen_linear"]}}
DEFAULTS: dict[str, Any] = {
    "canvas": 40, "fill": 0.9, "batch": 64, "validate_every": 10_000, "ema": 0.998,
    "augment": {"rotation": 180, "translation": 0.08, "zoom": 1.3, "shear": 15, "stretch": 1.2, "flip": 0.5},
    "optimiser": {"name": "sgd", "lr": 0.05, "weight_decay": 5e-4}, "schedule": {"name": "cosine", "warmup": 0.08},
}


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--data", type=Path, required=True, help="directory with the bowl's train.zip")
    made.add_argument("--epochs", type=int, default=12, help="of the backbone, and of the net from scratch")
    options = made.parse_args()
    os.environ["PIPELINE_SLOTS"] = str(options.jobs)
    source = options.data.resolve()
    with working_directory(options.work) as work:
        whole = pack_once(ndsb_data(source), work / "ndsb")
        first, second = (half(whole, work / f"half{i}", i, limit=options.limit_rows) for i in (0, 1))
        backbone, spent = trained_backbone(first, work, epochs=options.epochs)
        os.chdir(project(work / "project", second, backbone, epochs=options.epochs))
        check.run()
        folds.run()
        seconds: dict[str, dict[str, float]] = {}
        for name in MODELS:
            seconds[name] = {"train": taken(train.run, name), "predict": taken(predict.run, name)}
        for key in STACKERS:
            seconds[f"frozen_linear.{key}"] = {"stack": taken(stack.run, "frozen_linear", key)}
        competition = load_competition()
        labels = competition.packed.labels
        rows = {name: scores(read_member(OOF / name, competition.roster).oof, labels) | {"seconds": spent_on}
                for name, spent_on in seconds.items()}
        write("frozen", {
            "data": "NDSB: the backbone learns every other class, the members are scored on the remaining ones",
            "backbone": {**spent, "rows": open_packed(first).n_train, "classes": len(open_packed(first).classes)},
            "n": len(labels), "classes": len(competition.packed.classes), "folds": len(competition.cells),
            "networks_at_a_time": options.jobs, "threads_each": 1, "epochs": options.epochs, "models": MODELS,
            "stackers": STACKERS, "defaults": DEFAULTS, "members": rows,
        })


def half(whole: Path, directory: Path, parity: int, *, limit: int | None) -> Path:
    """A store of the labelled images of every other class, and of at most `limit` rows, evenly spaced."""
    if (directory / META).exists():
        return directory
    store = open_packed(whole)
    classes = store.classes[parity::2]
    chosen = np.flatnonzero(np.isin(store.table["label"][:store.n_train], classes))
    if limit is not None and len(chosen) > limit:
        chosen = chosen[np.linspace(0, len(chosen) - 1, limit).round().astype(np.int64)]
    directory.mkdir(parents=True)
    rows, offset = [], 0
    with (directory / PIXELS).open("wb") as handle:
        for row in chosen:
            pixels = store.image(row)
            handle.write(pixels.tobytes())
            rows.append(Row(**{**store.table.iloc[row].to_dict(), "offset": offset}))
            offset += pixels.size
    write_packed(directory, rows, classes=classes, channels=store.channels, facts={})
    return directory


def trained_backbone(packed: Path, work: Path, *, epochs: int) -> tuple[Path, dict[str, float]]:
    """Weights of the net after `epochs` over all rows of the store, and what they cost."""
    config = parse_model("backbone", {"backbone": {**NET, "epochs": epochs}}, DEFAULTS)
    rows = np.arange(open_packed(packed).n_train)
    job = fold_job("backbone", config, packed=packed, cell=Cell(0, 0, 0, rows, rows[:1]), work=work)
    train_folds([job], "backbone", slots=1)
    return job.scratch / "fold.safetensors", timing(job)


def project(root: Path, packed: Path, backbone: Path, *, epochs: int) -> Path:
    """A directory in which the stages run: params.yaml, the packed images, the pretrained weights."""
    (root / WEIGHTS).parent.mkdir(parents=True, exist_ok=True)
    (root / PACKED).mkdir(parents=True, exist_ok=True)
    copyfile(backbone, root / WEIGHTS)
    for file in packed.iterdir():
        copyfile(file, root / PACKED / file.name)
    tree = {
        "seed": 0, "data": {"source": "folder", "path": "data"}, "folds": {"k": 3},
        "defaults": {**DEFAULTS, "epochs": epochs}, "models": MODELS, "stackers": STACKERS,
        "ensemble": {"metric": "log_loss"}, "submit": {},
    }
    with (root / PARAMS).open("w") as handle:
        YAML(typ="safe").dump(tree, handle)
    return root


def taken(stage: Callable[..., None], *arguments: str) -> float:
    """Seconds of a stage, start of its worker processes included."""
    started = perf_counter()
    stage(*arguments)
    return round(perf_counter() - started, 1)


if __name__ == "__main__":
    main()
